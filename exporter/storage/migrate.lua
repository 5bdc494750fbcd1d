-- Layout 2 to 3 of what is under a prefix: blocks and sums belong to series. What is there in the
-- new layout is added to, so that it may be called again if somebody still wrote the old one.
--
-- KEYS[1]  prefix, such as "llmq:{openai}"
-- KEYS[2]  home of the log
-- ARGV[1]  msgpack of model -> series, as text
-- ARGV[2]  the series without a model
-- ARGV[3]  where a sum stays put
-- Returns whether there was anything, or nil when a model that is there lacks in ARGV[1].

local prefix, series_of, most = KEYS[1], cmsgpack.unpack(ARGV[1]), tonumber(ARGV[3])
if redis.call('EXISTS', prefix .. ':totals', prefix .. ':changed') == 0 then return 0 end
local totals = redis.call('HGETALL', prefix .. ':totals')
for i = 1, #totals, 2 do
  if not series_of[totals[i]:match('^%d+:(.*)$')] then return nil end
end

for i = 1, #totals, 2 do
  local column, model = totals[i]:match('^(%d+):(.*)$')
  local series = series_of[model]
  local sum = tonumber(totals[i + 1]) < most and totals[i + 1] or string.format('%.0f', most)
  redis.call('BITFIELD', prefix .. ':total:' .. series,
    'OVERFLOW', 'SAT', 'INCRBY', 'u61', 64 * column + 3, sum)
  redis.call('SADD', prefix .. ':series', series)
end

local blocks, expires = {}, {}
for _, member in ipairs(redis.call('ZRANGE', prefix .. ':changed', 0, -1)) do
  local block, column = member:match('^(%a:%d+):(%d+)$')
  local body = block and redis.call('GET', prefix .. ':' .. member)
  if body then
    local records = blocks[block] or {}
    blocks[block] = records
    for at = 1, #body, 8 do
      local n = struct.unpack('>I8', body, at)
      if n > 0 then
        local place = column * 512 + (at - 1) / 8
        records[#records + 1] = struct.pack('>I2I8', place, math.min(n, most))
      end
    end
    local left = redis.call('PTTL', prefix .. ':' .. member)
    expires[block] = math.max(expires[block] or 0, left)
    redis.call('UNLINK', prefix .. ':' .. member)
  end
end
for block, records in pairs(blocks) do
  if #records > 0 then
    local key = prefix .. ':' .. block
    local before = redis.call('HGET', key, ARGV[2]) or struct.pack('>I2', #records)
    redis.call('HSET', key, ARGV[2], before .. table.concat(records))
    if redis.call('PTTL', key) < expires[block] then
      redis.call('PEXPIRE', key, expires[block])
    end
  end
end
redis.call('UNLINK', prefix .. ':totals', prefix .. ':changed', prefix .. ':version')
redis.call('INCR', KEYS[2] .. ':version') -- without an entry in the log: who reads it starts anew
return 1
