-- Count a group of batches, each identity once. A script runs alone, and Redis refuses it before
-- its first write or not at all: the group is counted whole or not.
--
-- KEYS[1]    prefix of the keys under which answers are kept by Idempotency-Key
-- KEYS[2..]  prefixes of what is counted, such as "llmq:{openai}". Other keys are a prefix and a
--            suffix: the same hash tag, thus the same slot of a cluster.
-- ARGV[1]    msgpack {remembering, levels, tiers, width}
--              remembering {number of the present period, Unix seconds until which its keys live}
--              levels      {Unix seconds before which nothing is known, Unix seconds of expiry}
--              tiers       of {name, fine slots per bin, bins per block, oldest block number,
--                          seconds per block, seconds kept}; a fine slot is 10 s of Unix time
--              width       numbers per count: tokens by kind, and requests as the last
-- ARGV[2]    msgpack of batches {whether it has a key, events, rejected, cells, claims, levels,
--            {index in KEYS, names of documents}}
--              cells       of {index in KEYS, model, fine slot, counts, those of claims included}
--              claims      flat: for each its index in cells, then its counts
--              levels      of {started in Unix seconds, index in cells, counts}
-- ARGV[3]    16 bytes for each key, claim and level, in the order of the batches
-- ARGV[4..]  bodies of documents, in that order (Lua's msgpack cannot carry bytes)
-- Returns msgpack: for each batch {repeated, accepted, duplicates, baselines, rejected,
--            a "1" or "0" per claim, counts by which each level rose (empty: a baseline)}.
-- Counts are whole numbers below 2^53, the largest that Lua holds exactly.

local remembering, levels_known, tiers, width = unpack(cmsgpack.unpack(ARGV[1]))
local period, forgotten_at = unpack(remembering)
local known_since, level_expires = unpack(levels_known)
local batches = cmsgpack.unpack(ARGV[2])

local ARGUMENTS = 1000 -- in one call; Lua's stack ends at 8000

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
  for n = period - 1, period + 1 do -- replicas' clocks differ: another may be a period ahead
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
    if #arguments > 0 then redis.call('EXPIREAT', key, forgotten_at) end
  end
  for prefix, digests in pairs(fresh) do
    lasting('SADD', prefix .. ':seen:' .. period, digests)
  end
  lasting('HSET', KEYS[1] .. ':keys:' .. period, answers)
end

-- DedupEntry the identities, taking out of its cell what is not new: how many are, and a "1" or "0"
-- for each.
local function claim(cells, flat, digests)
  local count, novel = 0, {}
  for i, digest in ipairs(digests) do
    local at = (i - 1) * (width + 1) + 1
    local cell = cells[flat[at]]
    if known[digest] then
      novel[i] = '0'
      local sum = cell[4]
      for k = 1, width do sum[k] = sum[k] - flat[at + k] end
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
-- The rule is that of `rise` in exporter/core/slots.py: the sum over the kinds is sure, and the
-- kinds rise by no more than it. The last of the counts is that of requests.
local function rise(prefix, digest, started, counts)
  local key = prefix .. ':level:' .. digest
  local stored = redis.call('GET', key)
  local before = stored and cmsgpack.unpack(stored) or {started, {}}
  local since, base = before[1], before[2]
  local nothing, left = {}, 0
  if started > since then base = {} end
  for i, n in ipairs(counts) do
    nothing[i] = 0
    if i < #counts then left = left + n - (base[i] or 0) end
  end
  if started < since or left < 0 then return nothing end -- a late report
  local rises = {}
  for i = 1, #counts - 1 do
    rises[i] = math.min(left, math.max(0, counts[i] - (base[i] or 0)))
    left = left - rises[i]
  end
  rises[#counts] = math.max(0, counts[#counts] - (base[#counts] or 0))
  redis.call('SET', key, cmsgpack.pack({started, counts}), 'EXAT', level_expires)
  if not stored and started < known_since then return {} end
  return rises
end

-- Sums, and what is written of them at the end.

local versions = {}

-- The version that everything under `prefix` gets which this script changes.
local function version(prefix)
  versions[prefix] = versions[prefix] or redis.call('INCR', prefix .. ':version')
  return versions[prefix]
end

-- Note the change; whether there was no such member before.
local function changed(prefix, member)
  return redis.call('ZADD', prefix .. ':changed', version(prefix), member) == 1
end

local sums = {} -- prefix -> model -> slot -> counts

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
  for i, n in ipairs(cell[4]) do sum[i] = (sum[i] or 0) + n end
end

-- Add to the blocks the tokens of one kind that were used in a slot.
local function place(blocks, slot, kind, n)
  for _, tier in ipairs(tiers) do
    local bin = math.floor(slot / tier[2])
    local number, position = math.floor(bin / tier[3]), bin % tier[3]
    if number >= tier[4] then
      local block = within(blocks, tier[1] .. ':' .. number .. ':' .. kind)
      block[position] = (block[position] or 0) + n
      block.expires = (number + 1) * tier[5] + tier[6]
    end
  end
end

local function write(prefix, models)
  version(prefix) -- totals have none of their own
  local blocks = {}
  for model, slots in pairs(models) do
    local totals = {}
    for slot, counts in pairs(slots) do
      for i, n in ipairs(counts) do
        totals[i] = (totals[i] or 0) + n
        if n > 0 and i < width then place(blocks, slot, i - 1, n) end
      end
    end
    for i, n in ipairs(totals) do
      if n > 0 then
        local field = (i - 1) .. ':' .. model
        redis.call('HINCRBY', prefix .. ':totals', field, string.format('%.0f', n))
      end
    end
  end
  for member, block in pairs(blocks) do
    local key, expires, steps = prefix .. ':' .. member, block.expires, {}
    block.expires = nil
    for position, n in pairs(block) do
      local at = #steps
      steps[at + 1], steps[at + 2] = 'INCRBY', 'i64'
      steps[at + 3], steps[at + 4] = '#' .. position, string.format('%.0f', n)
    end
    redis.call('BITFIELD', key, unpack(steps))
    if changed(prefix, member) then redis.call('EXPIREAT', key, expires) end
  end
end

local bodies_taken = 3

local function write_documents(place, names)
  for _, name in ipairs(names) do
    local member = 'd:' .. name
    bodies_taken = bodies_taken + 1
    changed(KEYS[place], member)
    redis.call('SET', KEYS[place] .. ':' .. member, ARGV[bodies_taken])
  end
end

local function count(batch)
  local _, accepted, rejected, cells, claims, counters, documents = unpack(batch)
  local digests = batch.digests
  local earlier = digests.key and known[digests.key]
  if earlier then
    bodies_taken = bodies_taken + #documents[2]
    return {true, earlier[1], earlier[2], earlier[3], earlier[4], '', {}}
  end
  local new, novel = claim(cells, claims, digests)
  accepted = accepted + new
  local baselines, rises = 0, {}
  for i, level in ipairs(counters) do
    local cell = cells[level[2]]
    local rose = rise(KEYS[cell[1]], digests.levels[i], level[1], level[3])
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

look_up(take_digests())
local outcomes = {}
for i, batch in ipairs(batches) do outcomes[i] = count(batch) end
remember()
for prefix, models in pairs(sums) do write(prefix, models) end
return cmsgpack.pack(outcomes)
