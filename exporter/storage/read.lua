-- What was committed under a home since a version.
--
-- KEYS[1]  home, such as "llmq:{*keys}"; see commit.lua
-- ARGV[1]  the version up to which the reader knows everything
-- Returns {version, {entry of the log, ...}}; the entries are those after ARGV[1], or fewer when
-- the log does not reach back that far.

local version = tonumber(redis.call('GET', KEYS[1] .. ':version') or 0)
local entries = {}
for _, entry in ipairs(redis.call('XRANGE', KEYS[1] .. ':log', '(' .. ARGV[1] .. '-1', '+')) do
  entries[#entries + 1] = entry[2][2]
end
return {version, entries}
