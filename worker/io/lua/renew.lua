-- Prolongs a lease that is still the caller's; a lease that ran out and was taken by another worker stays that worker's.
-- KEYS[1] lease    ARGV[1] worker  ARGV[2] time to live in ms; 0 gives the lease back
-- Returns 1 if the caller held it, else 0.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
if ARGV[2] == '0' then
  return redis.call('DEL', KEYS[1])
end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
