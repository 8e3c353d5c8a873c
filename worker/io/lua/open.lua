-- A worker takes a session: the epoch is raised, so that an earlier owner can publish no more, and the checkpoint comes back.
-- One script, because between reading a checkpoint and raising the epoch the earlier owner could still commit.
-- KEYS: the state hash
-- ARGV: ttl_s       of the state hash
--       lease       the epoch of the lease under which the session is taken
--       worker      that takes it
--       max_failed  so many owners in a row may fail before it is taken only alone
--       may_alone   '1' if it may be taken alone
--       failure     names the caller's own failure at this session since it took it last, '' for none; each counts once
--       dead        the worker that held the shard before and has died, or ''
-- Returns {epoch, failed owners, failed trials, checkpoint, seq}, false for what was never set; 'STALE' where the session
-- has been taken under a later lease; 'SUSPECT' where it may be taken only alone. It may be repeated. The epoch is no lower
-- than the lease's, so that two owners never share one, even if Redis has forgotten the last ones. `owners` counts those who
-- took the session since it last got further, `trials` those who took it alone; a commit sets them back. An owner that
-- lives, or gave the session back, has not failed, and is taken out of both here: so a reply that was lost, or a lease that
-- was, is held against nobody.
local state = KEYS[1]
local ttl_s, lease, worker, max_failed, may_alone, failure, dead = unpack(ARGV)

local names = {'epoch', 'lease', 'status', 'owner', 'owners', 'trials', 'is_trial', 'failure', 'checkpoint', 'seq'}
local values, saved = redis.call('HMGET', state, unpack(names)), {}
for i, name in ipairs(names) do
  saved[name] = values[i]
end
if tonumber(saved.lease or '0') > tonumber(lease) then
  return 'STALE'
end

local owner, failed, trials = saved.owner or '', tonumber(saved.owners or '0'), tonumber(saved.trials or '0')
if saved.status == 'closed' then
  failed, trials = 0, 0
elseif owner ~= '' and owner ~= dead then
  failed, trials = failed - 1, saved.is_trial == '1' and trials - 1 or trials
end
if failure ~= '' and failure ~= saved.failure then
  failed, trials = failed + 1, trials + 1
end

local is_trial = failed >= tonumber(max_failed)
if is_trial and may_alone ~= '1' then
  redis.call('HSET', state, 'owner', '', 'owners', string.format('%d', failed), 'trials', string.format('%d', trials),
    'failure', failure)
  return 'SUSPECT'
end
local epoch = math.max(tonumber(saved.epoch or '0') + 1, tonumber(lease))
redis.call('HSET', state, 'epoch', string.format('%d', epoch), 'lease', lease, 'owner', worker,
  'owners', string.format('%d', failed + 1), 'trials', string.format('%d', is_trial and trials + 1 or trials),
  'is_trial', is_trial and '1' or '0', 'failure', failure)
redis.call('EXPIRE', state, ttl_s)
return {epoch, failed, trials, saved.checkpoint, saved.seq}
