-- A worker's heartbeat: it says that it lives, prolongs, takes and gives back leases, and learns how all of them stand.
-- One script, because a lease must be looked at and taken at one moment of one clock, and because who sees the leases must
-- see the workers of the same moment.
-- KEYS[1] living workers (hash)  KEYS[2] stream of freed shards  KEYS[3…] leases (hashes) of the shards 0, 1, …
-- ARGV[1] worker  [2] how it describes itself, '' when it has left  [3] term in ms of leases and life sign
--     [4] a letter a shard: 'h' hold (prolong, or take if free), 'g' give back, '-' only look
-- A lease is {owner, epoch, until, term}, the time being Redis's; it stays when it has run out, as its epoch must never fall.
-- The epoch of a new owner is above the last one and, should Redis have forgotten that, above all of earlier milliseconds.
-- Whoever gives a lease back, or leaves, rings for the others.
-- Returns {{worker, description, …}, {owner, epoch, ms left, …}}.
local worker, about, term = ARGV[1], ARGV[2], tonumber(ARGV[3])
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

local function whole(number)
  return string.format('%d', number)
end

local freed = false
if about == '' then
  freed = redis.call('HDEL', KEYS[1], worker) == 1
else
  redis.call('HSET', KEYS[1], worker, whole(now + term) .. ' ' .. whole(term) .. ' ' .. about)
end
local living, longest = {}, term
local signs = redis.call('HGETALL', KEYS[1])
for i = 1, #signs, 2 do
  local stamp, own_term, words = string.match(signs[i + 1], '^(%d+) (%d+) (.*)$')
  local left = stamp and tonumber(stamp) - now or 0
  if left > 0 then
    if left > tonumber(own_term) then -- Redis's clock has gone back: nothing may last longer for that
      redis.call('HSET', KEYS[1], signs[i], whole(now + tonumber(own_term)) .. ' ' .. own_term .. ' ' .. words)
    end
    longest = math.max(longest, tonumber(own_term))
    table.insert(living, signs[i])
    table.insert(living, words)
  else
    redis.call('HDEL', KEYS[1], signs[i])
  end
end
redis.call('PEXPIRE', KEYS[1], longest)

local leases = {}
for i = 3, #KEYS do
  local verb = string.sub(ARGV[4], i - 2, i - 2)
  local saved = redis.call('HMGET', KEYS[i], 'owner', 'epoch', 'until', 'term')
  local owner, epoch, own_term = saved[1] or '', tonumber(saved[2] or '0'), tonumber(saved[4] or '0')
  local left = math.max(0, tonumber(saved[3] or '0') - now)
  if left > own_term then
    left = own_term
    redis.call('HSET', KEYS[i], 'until', whole(now + own_term))
  end
  if verb == 'h' and (owner == worker or owner == '' or left == 0) then
    if owner ~= worker then
      epoch = math.max(epoch + 1, now)
    end
    owner, left = worker, term
    redis.call('HSET', KEYS[i], 'owner', owner, 'epoch', whole(epoch), 'until', whole(now + term), 'term', whole(term))
  elseif verb == 'g' and owner == worker then
    owner, left, freed = '', 0, true
    redis.call('HSET', KEYS[i], 'owner', '', 'until', '0')
  end
  table.insert(leases, owner)
  table.insert(leases, whole(epoch))
  table.insert(leases, left)
end
if freed then
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', '100', '*', 'worker', worker)
end
return {living, leases}
