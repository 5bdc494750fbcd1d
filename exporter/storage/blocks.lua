-- Some blocks under a prefix, of all series.
--
-- KEYS[1]  prefix, such as "llmq:{openai}"; see commit.lua
-- KEYS[2]  home of the log
-- ARGV     suffixes of keys, such as "c:20752"
-- Returns {version of the log, {series, body, ...}, ...}

local found = {tonumber(redis.call('GET', KEYS[2] .. ':version') or 0)}
for i, suffix in ipairs(ARGV) do found[i + 1] = redis.call('HGETALL', KEYS[1] .. ':' .. suffix) end
return found
