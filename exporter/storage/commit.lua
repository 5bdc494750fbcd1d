-- Count a group of batches, each identity once. A script runs alone, and Redis refuses it before
-- its first write or not at all; nothing in it fails once it has begun to write. So the group is
-- counted whole or not.
--
-- KEYS[1]    home: the prefix of the log, and of the answers kept by Idempotency-Key
-- KEYS[2..]  prefixes of what is counted, such as "llmq:{openai}". Other keys are a prefix and a
--            suffix: the same hash tag, thus the same slot of a cluster.
-- ARGV[1]    msgpack {remembering, levels, tiers, width, most}
--              remembering {number of the present period, how many before it still matter, seconds
--                          for which its keys live at the least}
--              levels      {Unix seconds before which nothing is known, seconds until expiry}
--              tiers       of {name, fine slots per bin, bins per block, oldest block number,
--                          seconds per block, seconds until a block of number 0 expires}; a fine
--                          slot is 10 s of Unix time
--              width       columns per count: tokens by kind, then requests, then cost
--              most        where a sum stays put
-- ARGV[2]    msgpack of batches {whether it has a key, events, rejected, cells, claims, levels,
--            {index in KEYS, documents}}
--              cells       of {index in KEYS, series, fine slot, counts, those of claims included}
--              claims      flat: for each its index in cells, then its counts
--              levels      of {started in Unix seconds, index in cells, counts, sampled}
--              documents   flat: for each its name, and the digest of the body it was merged with,
--                          empty for none; or "*" to store it whatever is stored
-- ARGV[3]    16 bytes for each key, claim and level, in the order of the batches
-- ARGV[4..]  bodies of documents, in that order (Lua's msgpack cannot carry bytes)
-- Returns msgpack: for each batch {repeated, accepted, duplicates, baselines, rejected,
--            a "1" or "0" per claim, counts by which each level rose (empty: a baseline)}.
--            Or, when other bodies of documents are stored than those they were merged with, and
--            nothing was changed: for each its number, from 1, and the body that is stored.
-- Counts are whole numbers; Lua holds them exactly below 2^53.

local remembering, levels_known, tiers, width, most = unpack(cmsgpack.unpack(ARGV[1]))
local period, before, forgotten_in = unpack(remembering)
local known_since, level_expires = unpack(levels_known)
local batches = cmsgpack.unpack(ARGV[2])

local ARGUMENTS = 1000 -- in one call; Lua's stack ends at 8000
local REQUESTS = width - 1
local CHANNEL = 'llmq:committed' -- see redis_hints.py
local LOGGED, LOG_SECONDS = 10000, 600 -- a reader that fell behind further reads everything anew

-- Call `command` on `key` with all the arguments, some at a time.
local function call_in_parts(command, key, arguments, each)
  for first = 1, #arguments, ARGUMENTS do
    local last = math.min(first + ARGUMENTS - 1, #arguments)
    local reply = redis.call(command, key, unpack(arguments, first, last))
    if each then
      for i, value in ipairs(reply) do each(arguments[first + i - 1], value) end
    end
  end
end

-- A key of another type, which somebody else made, would fail a write after others were done: the
-- identities would be remembered of what is not counted. So all are looked at before the first.
local function require_type(key, wanted)
  local found = redis.call('TYPE', key).ok
  if found ~= 'none' and found ~= wanted then
    error('WRONGTYPE ' .. key .. ' is a ' .. found .. ', expected a ' .. wanted)
  end
end

local function require_types()
  local home, checked = KEYS[1], {}
  require_type(home .. ':keys:' .. period, 'hash')
  require_type(home .. ':log', 'stream')
  require_type(home .. ':version', 'string')
  if not tonumber(redis.call('GET', home .. ':version') or '0') then
    error('WRONGTYPE ' .. home .. ':version is no number')
  end
  local function once(key, wanted)
    if not checked[key] then
      checked[key] = true
      require_type(key, wanted)
    end
  end
  for _, batch in ipairs(batches) do
    for i, level in ipairs(batch[6]) do
      local prefix = KEYS[batch[4][level[2]][1]]
      once(prefix .. ':level:' .. batch.digests.levels[i], 'string')
    end
    for _, cell in ipairs(batch[4]) do
      local prefix = KEYS[cell[1]]
      once(prefix .. ':seen:' .. period, 'set')
      once(prefix .. ':series', 'set')
      once(prefix .. ':total:' .. cell[2], 'string')
      for _, tier in ipairs(tiers) do
        local number = math.floor(math.floor(cell[3] / tier[2]) / tier[3])
        once(prefix .. ':' .. tier[1] .. ':' .. number, 'hash')
      end
    end
  end
end

-- Identities: asked about, and remembered, for the whole group together.

local known = {} -- digest -> true, of claims; digest -> answer, of keys
local fresh, answers = {}, {} -- what to remember, by prefix; fields and values of a hash

local function take_digests()
  local at, keys, claims = 1, {}, {}
  local function take()
    at = at + 16
    return ARGV[3]:sub(at - 16, at - 1)
  end
  for _, batch in ipairs(batches) do
    local digests = {levels = {}}
    if batch[1] then
      digests.key = take()
      keys[#keys + 1] = digests.key
    end
    local cells, flat = batch[4], batch[5]
    for i = 1, #flat, width + 1 do
      local prefix = KEYS[cells[flat[i]][1]]
      local asked = claims[prefix]
      if not asked then
        asked = {}
        claims[prefix], fresh[prefix] = asked, {}
      end
      local digest = take()
      asked[#asked + 1] = digest
      digests[#digests + 1] = digest
    end
    for i = 1, #batch[6] do digests.levels[i] = take() end
    batch.digests = digests
  end
  return keys, claims
end

local function look_up(keys, claims)
  for n = period - before, period + 1 do -- replicas' clocks differ: another may be a period ahead
    for prefix, asked in pairs(claims) do
      local set = prefix .. ':seen:' .. n
      if redis.call('EXISTS', set) == 1 then
        call_in_parts('SMISMEMBER', set, asked, function(digest, hit)
          if hit == 1 then known[digest] = true end
        end)
      end
    end
    call_in_parts('HMGET', KEYS[1] .. ':keys:' .. n, keys, function(key, answer)
      if answer then known[key] = cmsgpack.unpack(answer) end
    end)
  end
end

local function remember()
  local function lasting(command, key, arguments)
    call_in_parts(command, key, arguments)
    if #arguments > 0 and redis.call('TTL', key) < forgotten_in then
      redis.call('EXPIRE', key, forgotten_in)
    end
  end
  for prefix, digests in pairs(fresh) do
    lasting('SADD', prefix .. ':seen:' .. period, digests)
  end
  lasting('HSET', KEYS[1] .. ':keys:' .. period, answers)
end

-- Claim the identities, taking out of its cell what is not new: how many are, and a "1" or "0"
-- for each.
local function claim(cells, flat, digests)
  local count, novel = 0, {}
  for i, digest in ipairs(digests) do
    local at = (i - 1) * (width + 1) + 1
    local cell = cells[flat[at]]
    if known[digest] then
      novel[i] = '0'
      local sum = cell[4]
      for k = 1, width do sum[k] = math.max(sum[k] - flat[at + k], 0) end
    else
      known[digest] = true
      novel[i] = '1'
      count = count + 1
      local new = fresh[KEYS[cell[1]]]
      new[#new + 1] = digest
    end
  end
  return count, table.concat(novel)
end

-- What a cumulative counter rose by; empty when its past lies before all that is known here.
-- The rule is that of `delta_since` in exporter/core/slots.py: the sum over the kinds is sure, and
-- the kinds rise by no more than it.
local function rise(prefix, digest, started, counts, sampled)
  local key = prefix .. ':level:' .. digest
  local stored = redis.call('GET', key)
  local before = stored and cmsgpack.unpack(stored) or {started, {}}
  local since, base = before[1], before[2]
  local nothing, left, late = {}, 0, false
  if started > since and not sampled then base = {} end
  local whole = 0
  for i, n in ipairs(counts) do
    nothing[i] = 0
    if i < REQUESTS then
      left, whole = left + n - (base[i] or 0), whole + n
    else
      late = late or n < (base[i] or 0)
    end
  end
  local fell = left < 0 or (left == 0 and late)
  if fell and sampled and started > since then base, left, fell = {}, whole, false end
  if started < since or fell then return nothing end
  local rises = {}
  for i = 1, REQUESTS - 1 do
    rises[i] = math.min(left, math.max(0, counts[i] - (base[i] or 0)))
    left = left - rises[i]
  end
  for i = REQUESTS, width do rises[i] = math.max(0, counts[i] - (base[i] or 0)) end
  redis.call('SET', key, cmsgpack.pack({started, counts}), 'EX', level_expires)
  if not stored and (sampled or started < known_since) then return {} end
  return rises
end

-- Sums, and what is written of them at the end.

local sums = {} -- prefix -> series -> slot -> counts
local names = {} -- of documents that were written

local function within(map, key)
  local value = map[key]
  if not value then
    value = {}
    map[key] = value
  end
  return value
end

local function add(cell)
  local sum = within(within(within(sums, KEYS[cell[1]]), cell[2]), cell[3])
  for i, n in ipairs(cell[4]) do sum[i] = math.min((sum[i] or 0) + n, most) end
end

-- Add the records to the body of a block: see `blocks.py`, which reads it.
local RECORD, SPARE = 10, 64

local function appended(body, added)
  local parts = {body or '\0\0'}
  for place, n in pairs(added) do parts[#parts + 1] = struct.pack('>I2I8', place, n) end
  body = table.concat(parts)
  if #body <= 2 + RECORD * (2 * struct.unpack('>I2', body) + SPARE) then return body end
  local summed, distinct = {}, 0
  for at = 3, #body, RECORD do
    local place, n = struct.unpack('>I2I8', body, at)
    if not summed[place] then distinct = distinct + 1 end
    summed[place] = math.min((summed[place] or 0) + n, most)
  end
  parts = {struct.pack('>I2', distinct)}
  for place, n in pairs(summed) do parts[#parts + 1] = struct.pack('>I2I8', place, n) end
  return table.concat(parts)
end

local function write_blocks(prefix, series, slots)
  for _, tier in ipairs(tiers) do
    local blocks = {}
    for slot, counts in pairs(slots) do
      local bin = math.floor(slot / tier[2])
      local number, position = math.floor(bin / tier[3]), bin % tier[3]
      if number >= tier[4] then
        local block = within(blocks, number)
        for i, n in ipairs(counts) do
          if n > 0 then
            local place = (i - 1) * 512 + position
            block[place] = math.min((block[place] or 0) + n, most)
          end
        end
      end
    end
    for number, added in pairs(blocks) do
      local key = prefix .. ':' .. tier[1] .. ':' .. number
      redis.call('HSET', key, series, appended(redis.call('HGET', key, series), added))
      local seconds = number * tier[5] + tier[6]
      if redis.call('TTL', key) < seconds - 60 then redis.call('EXPIRE', key, seconds) end
    end
  end
end

-- Eight bytes for each column, of which three bits stay zero: thus a sum stays put where `most` is.
local function write_total(prefix, series, slots)
  local steps = {}
  for i = 1, width do
    local n = 0
    for _, counts in pairs(slots) do n = math.min(n + counts[i], most) end
    if n > 0 then
      local at = #steps
      steps[at + 1], steps[at + 2] = 'INCRBY', 'u61'
      steps[at + 3], steps[at + 4] = 64 * (i - 1) + 3, string.format('%.0f', n)
    end
  end
  if #steps == 0 then return end
  redis.call('BITFIELD', prefix .. ':total:' .. series, 'OVERFLOW', 'SAT', unpack(steps))
  redis.call('SADD', prefix .. ':series', series)
end

-- Write all sums, and log what was added for other readers.
local function write()
  local added = {}
  for prefix, all in pairs(sums) do
    for series, slots in pairs(all) do
      write_total(prefix, series, slots)
      write_blocks(prefix, series, slots)
      for slot, counts in pairs(slots) do added[#added + 1] = {series, slot, counts} end
    end
  end
  if #added == 0 and #names == 0 then return end
  local log, version = KEYS[1] .. ':log', redis.call('INCR', KEYS[1] .. ':version')
  local entry = cmsgpack.pack({added, names})
  redis.call('XADD', log, 'MAXLEN', '~', LOGGED, version .. '-1', 'added', entry)
  redis.call('EXPIRE', log, LOG_SECONDS)
  -- A hint, that a user may not be allowed to give: nothing may fail now.
  redis.pcall('PUBLISH', CHANNEL, version)
end

-- Documents.

local stored = {} -- name -> body, false for none
local bodies_taken = 3

-- Those documents that were not merged with what will be stored when their turn comes.
local function outdated()
  local found, before, coming, at = {}, {}, {}, 0
  for _, batch in ipairs(batches) do
    local key, place, flat = batch.digests.key, unpack(batch[7])
    local repeated = key and (known[key] or coming[key])
    if key then coming[key] = true end
    for i = 1, #flat, 2 do
      local name = flat[i]
      at = at + 1
      if not repeated then
        if stored[name] == nil then
          stored[name] = redis.call('HGET', KEYS[place] .. ':bodies', name)
        end
        local held = before[name] or stored[name]
        local base = flat[i + 1]
        if base ~= '*' and base ~= (held and redis.sha1hex(held) or '') then
          found[#found + 1] = at
          found[#found + 1] = held
        end
        before[name] = ARGV[bodies_taken + at]
      end
    end
  end
  return found
end

local function write_documents(place, flat)
  for i = 1, #flat, 2 do
    bodies_taken = bodies_taken + 1
    local name, body = flat[i], ARGV[bodies_taken]
    if stored[name] ~= body then
      stored[name] = body
      names[#names + 1] = name
      redis.call('HSET', KEYS[place] .. ':bodies', name, body)
    end
  end
end

local function count(batch)
  local _, accepted, rejected, cells, claims, counters, documents = unpack(batch)
  local digests = batch.digests
  local earlier = digests.key and known[digests.key]
  if earlier then
    bodies_taken = bodies_taken + #documents[2] / 2
    return {true, earlier[1], earlier[2], earlier[3], earlier[4], '', {}}
  end
  local new, novel = claim(cells, claims, digests)
  accepted = accepted + new
  local baselines, rises = 0, {}
  for i, level in ipairs(counters) do
    local cell = cells[level[2]]
    local rose = rise(KEYS[cell[1]], digests.levels[i], level[1], level[3], level[4])
    rises[i] = rose
    if #rose == 0 then
      baselines = baselines + 1
    else
      accepted = accepted + 1
      for k = 1, width do cell[4][k] = cell[4][k] + rose[k] end
    end
  end
  for _, cell in ipairs(cells) do add(cell) end
  write_documents(unpack(documents))
  local answer = {accepted, #digests - new, baselines, rejected}
  if digests.key then
    known[digests.key] = answer
    answers[#answers + 1] = digests.key
    answers[#answers + 1] = cmsgpack.pack(answer)
  end
  return {false, accepted, #digests - new, baselines, rejected, novel, rises}
end

local keys, claims = take_digests()
require_types()
look_up(keys, claims)
local found = outdated()
if #found > 0 then return found end
local outcomes = {}
for i, batch in ipairs(batches) do outcomes[i] = count(batch) end
remember()
write()
return cmsgpack.pack(outcomes)
