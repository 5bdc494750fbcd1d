-- Drop the blocks under a prefix that are too old, and what is known of their changes.
--
-- KEYS[1]  prefix, such as "llmq:{openai}"; see commit.lua
-- ARGV     pairs: name of a tier, number of its oldest block to keep

local oldest = {}
for i = 1, #ARGV, 2 do oldest[ARGV[i]] = tonumber(ARGV[i + 1]) end
for _, member in ipairs(redis.call('ZRANGE', KEYS[1] .. ':changed', 0, -1)) do
  local tier, number = member:match('^(%a):(%d+):')
  if oldest[tier] and tonumber(number) < oldest[tier] then
    redis.call('UNLINK', KEYS[1] .. ':' .. member)
    redis.call('ZREM', KEYS[1] .. ':changed', member)
  end
end
