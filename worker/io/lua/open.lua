-- A worker takes a session: the epoch is raised, so that an earlier owner can publish no more, and the checkpoint comes back.
-- One script, because between reading a checkpoint and raising the epoch the earlier owner could still commit.
-- KEYS[1] state hash    ARGV[1] TTL in seconds  [2] epoch of the lease under which the session is taken
--     [3] so many owners in a row may fail before it is taken only alone  [4] '1' if it may be taken alone
--     [5] '1' if the caller has failed at it itself, and knows that it was this session
-- Returns {epoch, failed owners, failed trials, status, cursor, source_seq, written, base, seq, segment, source_words,
-- target_words, refused, created_ms}, false for fields never set; 'STALE' where the session has been taken under a later
-- lease; 'SUSPECT' where it may be taken only alone. The epoch is no lower than the lease's, so that two owners never share
-- one, even if Redis has forgotten the last ones. `owners` counts those who took the session since it last got further,
-- `trials` those of whom it is known that it was this session they failed at; a commit sets them back.
local lease, limit = tonumber(ARGV[2]), tonumber(ARGV[3])
local fence = redis.call('HMGET', KEYS[1], 'epoch', 'lease', 'owners', 'trials', 'status')
if tonumber(fence[2] or '0') > lease then
  return 'STALE'
end
local failed, trials = tonumber(fence[3] or '0'), tonumber(fence[4] or '0')
if fence[5] == 'closed' then
  failed, trials = 0, 0
end
local is_alone = failed >= limit
if is_alone and ARGV[4] ~= '1' then
  return 'SUSPECT'
end
if ARGV[5] == '1' and failed <= limit then -- else it was alone, and has been counted when it was taken
  trials = trials + 1
end
local epoch = math.max(tonumber(fence[1] or '0') + 1, lease)
redis.call('HSET', KEYS[1], 'epoch', string.format('%d', epoch), 'lease', ARGV[2], 'owners', string.format('%d', failed + 1),
  'trials', string.format('%d', is_alone and trials + 1 or trials))
redis.call('EXPIRE', KEYS[1], ARGV[1])
local saved = redis.call('HMGET', KEYS[1], 'status', 'cursor', 'source_seq', 'written', 'base', 'seq', 'segment',
  'source_words', 'target_words', 'refused', 'created_ms')
table.insert(saved, 1, trials)
table.insert(saved, 1, failed)
table.insert(saved, 1, epoch)
return saved
