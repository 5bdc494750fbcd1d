-- For how long the identities of a store are remembered: as long as the replica that wants it
-- longest. They are in sets for periods of one length, that of the first replica there was.
--
-- KEYS[1]  "llmq:deduplication"
-- ARGV[1]  seconds that the caller wants
-- Returns {length of a period in seconds, seconds for which identities are remembered}, as text

redis.call('HSETNX', KEYS[1], 'period', ARGV[1])
local longest = redis.call('HGET', KEYS[1], 'longest')
if not longest or tonumber(longest) < tonumber(ARGV[1]) then
  longest = ARGV[1]
  redis.call('HSET', KEYS[1], 'longest', longest)
end
return {redis.call('HGET', KEYS[1], 'period'), longest}
