-- A worker takes a session: the epoch is raised, so that an earlier owner can publish no more, and the checkpoint comes back.
-- One script, because between reading a checkpoint and raising the epoch the earlier owner could still commit.
-- KEYS[1] state hash    ARGV[1] TTL in seconds  [2] epoch of the lease under which the session is taken
--     [3] the worker that takes it  [4] so many owners in a row may fail before it is taken only alone
--     [5] '1' if it may be taken alone  [6] names the caller's own failure at this session, each counts once; or ''
--     [7] the worker that held the shard before and has died, or ''
-- Returns {epoch, failed owners, failed trials, status, cursor, source_seq, written, base, seq, segment, source_words,
-- target_words, refused, created_ms}, false for fields never set; 'STALE' where the session has been taken under a later
-- lease; 'SUSPECT' where it may be taken only alone. The epoch is no lower than the lease's, so that two owners never share
-- one, even if Redis has forgotten the last ones. `owners` counts those who took the session since it last got further,
-- `trials` those who took it alone; a commit sets them back. An owner that lives, or gave the session back, has not failed,
-- and is taken out of both here: so a reply that was lost, or a lease that was, is held against nobody.
local lease = tonumber(ARGV[2])
local saved = redis.call('HMGET', KEYS[1], 'epoch', 'lease', 'status', 'owner', 'owners', 'trials', 'is_trial', 'failure')
if tonumber(saved[2] or '0') > lease then
  return 'STALE'
end
local owner, failed, trials = saved[4] or '', tonumber(saved[5] or '0'), tonumber(saved[6] or '0')
if saved[3] == 'closed' then
  failed, trials = 0, 0
elseif owner ~= '' and owner ~= ARGV[7] then
  failed, trials = failed - 1, saved[7] == '1' and trials - 1 or trials
end
if ARGV[6] ~= '' and ARGV[6] ~= saved[8] then
  failed, trials = failed + 1, trials + 1
end
local is_alone = failed >= tonumber(ARGV[4])
if is_alone and ARGV[5] ~= '1' then
  redis.call('HSET', KEYS[1], 'owner', '', 'owners', string.format('%d', failed), 'trials', string.format('%d', trials), 'failure', ARGV[6])
  return 'SUSPECT'
end
local epoch = math.max(tonumber(saved[1] or '0') + 1, lease)
redis.call('HSET', KEYS[1], 'epoch', string.format('%d', epoch), 'lease', ARGV[2], 'owner', ARGV[3],
  'owners', string.format('%d', failed + 1), 'trials', string.format('%d', is_alone and trials + 1 or trials),
  'is_trial', is_alone and '1' or '0', 'failure', ARGV[6])
redis.call('EXPIRE', KEYS[1], ARGV[1])
saved = redis.call('HMGET', KEYS[1], 'status', 'cursor', 'source_seq', 'written', 'base', 'seq', 'segment',
  'source_words', 'target_words', 'refused', 'created_ms')
table.insert(saved, 1, trials)
table.insert(saved, 1, failed)
table.insert(saved, 1, epoch)
return saved
