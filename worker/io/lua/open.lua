-- Claim a session: raise its epoch, which fences earlier owners, and return its checkpoint.
-- One script, because between reading a checkpoint and raising the epoch the earlier owner could still commit.
-- KEYS: the state hash, the target stream
-- ARGV: ttl_s       of the state hash
--       lease       the epoch of the lease under which the session is taken
--       worker      that takes it
--       max_failed  number of owners in a row that may fail before the session must run alone
--       may_alone   '1' if it may be taken alone
--       failure     names the caller's own failure at this session since it took it last, '' for none; each counts once
--       dead        the worker that held the shard before and has died, or ''
-- Returns {epoch, failed owners, failed attempts, checkpoint, seq, lost}, false for what was never set; 'STALE' where the session
-- has been taken under a later lease; 'SUSPECT' where it may be taken only alone. It may be repeated. The epoch is no lower
-- than the lease's, so that two owners never share one, even if Redis has forgotten the last ones. `owners` counts those who
-- took the session since it last got further, `attempts` those who took it alone; a commit sets them back. An owner that
-- lives, or gave the session back, has not failed, and is taken out of both here: so a reply that was lost, or a lease that
-- was, is held against nobody.
-- A state without events, beside a target stream that has some, was lost (an eviction): `lost` is set, `seq` from the stream.
local state, target = KEYS[1], KEYS[2]
local ttl_s, lease, worker, max_failed, may_alone, failure, dead = unpack(ARGV)

local names = {
  'epoch', 'lease', 'status', 'owner', 'owners', 'attempts', 'is_attempt', 'failure', 'checkpoint', 'seq', 'lost',
}
local values, saved = redis.call('HMGET', state, unpack(names)), {}
for i, name in ipairs(names) do
  saved[name] = values[i]
end
if tonumber(saved.lease or '0') > tonumber(lease) then
  return 'STALE'
end

local owner, failed, attempts = saved.owner or '', tonumber(saved.owners or '0'), tonumber(saved.attempts or '0')
if saved.status == 'closed' then
  failed, attempts = 0, 0
elseif owner ~= '' and owner ~= dead then
  failed, attempts = failed - 1, saved.is_attempt == '1' and attempts - 1 or attempts
end
if failure ~= '' and failure ~= saved.failure then
  failed, attempts = failed + 1, attempts + 1
end

local is_attempt = failed >= tonumber(max_failed)
if is_attempt and may_alone ~= '1' then
  redis.call('HSET', state, 'owner', '', 'owners', string.format('%d', failed), 'attempts', string.format('%d', attempts),
    'failure', failure)
  return 'SUSPECT'
end
local epoch = math.max(tonumber(saved.epoch or '0') + 1, tonumber(lease))
redis.call('HSET', state, 'epoch', string.format('%d', epoch), 'lease', lease, 'owner', worker,
  'owners', string.format('%d', failed + 1), 'attempts', string.format('%d', is_attempt and attempts + 1 or attempts),
  'is_attempt', is_attempt and '1' or '0', 'failure', failure)
if not saved.checkpoint and not saved.seq then
  local newest = redis.pcall('XREVRANGE', target, '+', '-', 'COUNT', '1')
  if newest[1] then
    saved.seq, saved.lost = string.match(newest[1][1], '^%d+'), '1'
    redis.call('HSET', state, 'seq', saved.seq, 'lost', saved.lost)
  end
end
redis.call('EXPIRE', state, ttl_s)
return {epoch, failed, attempts, saved.checkpoint, saved.seq, saved.lost}
