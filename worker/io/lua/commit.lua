-- Publishes target events and saves the checkpoint, if the worker still owns the session.
-- One script, because an event without its checkpoint would be published twice after a takeover.
-- KEYS[1] state hash  KEYS[2] target stream  KEYS[3] source stream
-- ARGV[1] epoch  [2] TTL in seconds  [3] longest target stream  [4] status  [5] cursor
--     [6] the producer's last seq, or ''  [7] segment  [8] what is written of it, or ''  [9] source_words
--     [10] target_words  [11] refused  [12] created_ms  [13] where a replay may begin, or '' for where it could before
--     [14] 'further' than the last owner the session has got, or on trial an 'event', else ''  [15] seq of the first event  [16…] events
-- Entry ids are <seq>-0: an event whose seq is there already is a repetition (a reply was lost), and a success.
-- Retention: all three keys live on for the TTL, or up to a tenth less: it is renewed only once that has gone. The target
-- stream keeps about its longest number of entries. The source is never trimmed while the session is open, nor by anybody
-- else behind the base, from where a replay reads it.
-- Returns how many of the events were there already; 'FENCED' for a worker that has lost the session; or 'BEHIND' where
-- events before these are missing (a server that came back with older data).
local saved = redis.call('HMGET', KEYS[1], 'epoch', 'seq')
if saved[1] ~= ARGV[1] then
  return 'FENCED'
end
local last = tonumber(saved[2] or '0')
local first, repeated = tonumber(ARGV[15]), 0
if first > last + 1 then
  return 'BEHIND'
end
for i = 16, #ARGV do
  local seq = first + i - 16
  if seq > last then
    redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[3], string.format('%d-0', seq), 'event', ARGV[i])
    last = seq
  else
    repeated = repeated + 1
  end
end
redis.call('HSET', KEYS[1], 'status', ARGV[4], 'cursor', ARGV[5], 'source_seq', ARGV[6], 'segment', ARGV[7],
  'written', ARGV[8], 'source_words', ARGV[9], 'target_words', ARGV[10], 'refused', ARGV[11], 'created_ms', ARGV[12],
  'seq', string.format('%d', last))
if ARGV[13] ~= '' then
  redis.call('HSET', KEYS[1], 'base', ARGV[13])
end
if ARGV[14] == 'further' then
  redis.call('HSET', KEYS[1], 'owners', '1', 'trials', '0', 'is_trial', '0')
elseif ARGV[14] == 'event' then
  redis.call('HSET', KEYS[1], 'trials', '1')
end
-- Nobody but this script touches the target's TTL: the others' are no shorter.
local wanted, left = tonumber(ARGV[2]), redis.call('TTL', KEYS[2])
if left > wanted or left < 0.9 * wanted then
  for _, key in ipairs(KEYS) do
    redis.call('EXPIRE', key, ARGV[2])
  end
end
return repeated
