-- Layout 2 to 3 of the documents: they are one hash. What is there in the new layout stays.
--
-- KEYS[1]  prefix of documents, "llmq:{*documents}"

for _, member in ipairs(redis.call('ZRANGE', KEYS[1] .. ':changed', 0, -1)) do
  local key = KEYS[1] .. ':' .. member
  local body = redis.call('GET', key)
  if body then
    redis.call('HSETNX', KEYS[1] .. ':bodies', member:sub(3), body)
    redis.call('UNLINK', key)
  end
end
redis.call('UNLINK', KEYS[1] .. ':changed')
return 1
