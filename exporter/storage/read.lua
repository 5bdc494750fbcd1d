-- What changed under a prefix since a version.
--
-- KEYS[1]  prefix, such as "llmq:{openai}"; see commit.lua
-- ARGV[1]  the version up to which the reader knows everything; "+inf" asks for no contents
-- Returns {version, {field, total, ...}, {member, content, ...}}; what has expired is left out.

local prefix = KEYS[1]
local contents = {}
local members = redis.call('ZRANGEBYSCORE', prefix .. ':changed', '(' .. ARGV[1], '+inf')
for _, member in ipairs(members) do
  local content = redis.call('GET', prefix .. ':' .. member)
  if content then
    contents[#contents + 1] = member
    contents[#contents + 1] = content
  end
end
local version = tonumber(redis.call('GET', prefix .. ':version') or 0)
return {version, redis.call('HGETALL', prefix .. ':totals'), contents}
