-- A worker takes a session: the epoch is raised, so that an earlier owner can publish no more, and the checkpoint comes back.
-- One script, because between reading a checkpoint and raising the epoch the earlier owner could still commit.
-- KEYS[1] state hash    ARGV[1] TTL in seconds
-- Returns {epoch, status, cursor, source_seq, written, seq, segment, source_words, target_words, refused, created_ms};
-- false for fields never set.
local epoch = redis.call('HINCRBY', KEYS[1], 'epoch', 1)
redis.call('EXPIRE', KEYS[1], ARGV[1])
local saved = redis.call('HMGET', KEYS[1], 'status', 'cursor', 'source_seq', 'written', 'seq', 'segment',
  'source_words', 'target_words', 'refused', 'created_ms')
table.insert(saved, 1, epoch)
return saved
