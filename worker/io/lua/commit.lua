-- Publish target events and save the checkpoint, unless another worker has claimed the session (another epoch than ARGV's).
-- The lease is not looked at here: a worker whose lease has run out stops by its own clock (worker/app/shards.py).
-- One script, because an event without its checkpoint would be published twice after a takeover.
-- KEYS: the state hash, the target stream, the source stream
-- ARGV: epoch       under which the session was taken
--       ttl_s       of all three keys
--       max_target  entries that the target stream keeps, about
--       status      of the session
--       checkpoint  all that the next owner needs, as bytes
--       advance     which failure counters to reset: 'further': all; 'event': the attempts at one entry; '': none
--       first       seq of the first event
--       …           event, visible, event, visible, …: the events, each with its `Visible` blob, or ''
-- Entry ids are <seq>-0: an event whose seq is there already is a repetition (a reply was lost), and a success.
-- Retention: all three keys live on for the TTL, or up to a tenth less: it is renewed only once that has gone. The source
-- is never trimmed while the session is open, nor by anybody else behind the base, from where a replay reads it.
-- Returns how many of the events were there already; 'FENCED' for a worker that has lost the session; 'LOST' where the state
-- is gone (an eviction); or 'BEHIND' where events before these are missing (a server that came back with older data).
local state, target = KEYS[1], KEYS[2]
local epoch, ttl_s, max_target, status, checkpoint, advance, first = unpack(ARGV, 1, 7)
local NUM_OPTIONS = 7

local saved = redis.call('HMGET', state, 'epoch', 'seq')
if not saved[1] then
  return 'LOST'
end
if saved[1] ~= epoch then
  return 'FENCED'
end
local last, seq, repeated = tonumber(saved[2] or '0'), tonumber(first), 0
if seq > last + 1 then
  return 'BEHIND'
end
for i = NUM_OPTIONS + 1, #ARGV, 2 do
  if seq > last then
    local fields = {'event', ARGV[i]}
    if ARGV[i + 1] ~= '' then
      fields = {'event', ARGV[i], 'visible', ARGV[i + 1]}
    end
    redis.call('XADD', target, 'MAXLEN', '~', max_target, string.format('%d-0', seq), unpack(fields))
    last = seq
  else
    repeated = repeated + 1
  end
  seq = seq + 1
end

redis.call('HSET', state, 'status', status, 'seq', string.format('%d', last), 'checkpoint', checkpoint)
if advance == 'further' then
  redis.call('HSET', state, 'owners', '1', 'attempts', '0', 'is_attempt', '0')
elseif advance == 'event' then
  redis.call('HSET', state, 'attempts', '1')
end

-- Nobody but this script touches the target's TTL: the others' are no shorter.
local wanted, left = tonumber(ttl_s), redis.call('TTL', target)
if left > wanted or left < 0.9 * wanted then
  for _, key in ipairs(KEYS) do
    redis.call('EXPIRE', key, ttl_s)
  end
end
return repeated
