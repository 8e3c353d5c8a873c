-- Heartbeat of a worker: renew, take and give back leases, and return all of them with the living workers.
-- One script, because a lease must be looked at and taken at one moment of one clock, and because who sees the leases must
-- see the workers of the same moment.
-- KEYS: the living workers (hash), the stream of freed shards, then the leases (hashes) of the shards 0, 1, …
-- ARGV: worker
--       about   how it describes itself, '' when it has left
--       term    of leases and life sign, in ms
--       verbs   a letter a shard: 'h' hold (renew, or take if free), 'g' give back, '-' only look
-- A lease is {owner, epoch, until, term}, the time being Redis's; it stays when it has run out, as its epoch must never fall.
-- The epoch of a new owner is above the last one and, should Redis have forgotten that, above all of earlier milliseconds.
-- Whoever gives a lease back, or leaves, rings for the others.
-- Returns {{worker, description, …}, {owner, epoch, ms left, …}}.
local workers, freed_stream = KEYS[1], KEYS[2]
local FIRST_LEASE = 3
local worker, about, term, verbs = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

local function whole(number)
  return string.format('%d', number)
end

local freed = false
if about == '' then
  freed = redis.call('HDEL', workers, worker) == 1
else
  redis.call('HSET', workers, worker, whole(now + term) .. ' ' .. whole(term) .. ' ' .. about)
end
local living, longest = {}, term
local signs = redis.call('HGETALL', workers)
for i = 1, #signs, 2 do
  local stamp, own_term, words = string.match(signs[i + 1], '^(%d+) (%d+) (.*)$')
  local left = stamp and tonumber(stamp) - now or 0
  if left > 0 then
    if left > tonumber(own_term) then -- Redis's clock has gone back: nothing may last longer for that
      redis.call('HSET', workers, signs[i], whole(now + tonumber(own_term)) .. ' ' .. own_term .. ' ' .. words)
    end
    longest = math.max(longest, tonumber(own_term))
    table.insert(living, signs[i])
    table.insert(living, words)
  else
    redis.call('HDEL', workers, signs[i])
  end
end
redis.call('PEXPIRE', workers, longest)

local leases = {}
for i = FIRST_LEASE, #KEYS do
  local lease, shard = KEYS[i], i - FIRST_LEASE
  local verb = string.sub(verbs, shard + 1, shard + 1)
  local saved = redis.call('HMGET', lease, 'owner', 'epoch', 'until', 'term')
  local owner, epoch, own_term = saved[1] or '', tonumber(saved[2] or '0'), tonumber(saved[4] or '0')
  local left = math.max(0, tonumber(saved[3] or '0') - now)
  if left > own_term then
    left = own_term
    redis.call('HSET', lease, 'until', whole(now + own_term))
  end
  if verb == 'h' and (owner == worker or owner == '' or left == 0) then
    if owner ~= worker then
      epoch = math.max(epoch + 1, now)
    end
    owner, left = worker, term
    redis.call('HSET', lease, 'owner', owner, 'epoch', whole(epoch), 'until', whole(now + term), 'term', whole(term))
  elseif verb == 'g' and owner == worker then
    owner, left, freed = '', 0, true
    redis.call('HSET', lease, 'owner', '', 'until', '0')
  end
  table.insert(leases, owner)
  table.insert(leases, whole(epoch))
  table.insert(leases, left)
end
if freed then
  redis.call('XADD', freed_stream, 'MAXLEN', '~', '100', '*', 'worker', worker)
end
return {living, leases}
