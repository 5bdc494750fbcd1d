-- The sums of all series under a prefix.
--
-- KEYS[1]  prefix, such as "llmq:{openai}"; see commit.lua
-- KEYS[2]  home of the log
-- Returns {version of the log, series, sum, ...}

local found = {tonumber(redis.call('GET', KEYS[2] .. ':version') or 0)}
for _, series in ipairs(redis.call('SMEMBERS', KEYS[1] .. ':series')) do
  found[#found + 1] = series
  found[#found + 1] = redis.call('GET', KEYS[1] .. ':total:' .. series) or ''
end
return found
