-- A worker takes a session: the epoch is raised, so that an earlier owner can publish no more, and the checkpoint comes back.
-- One script, because between reading a checkpoint and raising the epoch the earlier owner could still commit.
-- KEYS[1] state hash    ARGV[1] TTL in seconds  [2] epoch of the lease under which the session is taken
-- Returns {epoch, status, cursor, source_seq, written, base, seq, segment, source_words, target_words, refused, created_ms},
-- false for fields never set; or 'STALE' where the session has been taken under a later lease. The epoch is no lower than
-- the lease's, so that two owners never share one, even if Redis has forgotten the last ones.
local lease = tonumber(ARGV[2])
local fence = redis.call('HMGET', KEYS[1], 'epoch', 'lease')
if tonumber(fence[2] or '0') > lease then
  return 'STALE'
end
local epoch = math.max(tonumber(fence[1] or '0') + 1, lease)
redis.call('HSET', KEYS[1], 'epoch', string.format('%d', epoch), 'lease', ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[1])
local saved = redis.call('HMGET', KEYS[1], 'status', 'cursor', 'source_seq', 'written', 'base', 'seq', 'segment',
  'source_words', 'target_words', 'refused', 'created_ms')
table.insert(saved, 1, epoch)
return saved
