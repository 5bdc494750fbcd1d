-- Count a group of batches, each identity once. A script runs alone, and Redis refuses it before
-- its first write or not at all: the group is counted whole or not.
--
-- KEYS[1]    prefix of the keys under which answers are kept by Idempotency-Key
-- KEYS[2..]  prefixes of what is counted, such as "llmq:{openai}". Other keys are a prefix and a
--            suffix: the same hash tag, thus the same slot of a cluster.
-- ARGV[1]    msgpack {places, remembering, levels, tiers, width}
--              places      provider -> index in KEYS; the empty name is that of documents
--              remembering {number of the present period, Unix seconds until which its keys live}
--              levels      {Unix seconds before which nothing is known, Unix seconds of expiry}
--              tiers       of {name, fine slots per bin, bins per block, oldest block number,
--                          seconds per block, seconds kept}; a fine slot is 10 s of Unix time
--              width       numbers per count: tokens by kind, and requests as the last
-- ARGV[2]    msgpack of batches {whether it has a key, events, rejected, increments {cell, counts},
--            claims {cell, counts}, levels {started, cell, counts}, names of documents};
--            a cell is {provider, model, slot}, see contract.py for the rest
-- ARGV[3]    16 bytes for each key, claim and level, in the order of the batches
-- ARGV[4..]  bodies of documents, in that order (Lua's msgpack cannot carry bytes)
-- Returns msgpack: for each batch {repeated, accepted, duplicates, baselines, rejected,
--            a "1" or "0" per claim, counts by which each level rose (empty: a baseline)}.
-- Counts are whole numbers below 2^53, the largest that Lua holds exactly.

local places, remembering, levels, tiers, width = unpack(cmsgpack.unpack(ARGV[1]))
local period, forgotten_at = unpack(remembering)
local known_since, level_expires = unpack(levels)

local digests_taken, bodies_taken = 0, 0

local function next_digest()
  digests_taken = digests_taken + 16
  return ARGV[3]:sub(digests_taken - 15, digests_taken)
end

local function next_digests(n)
  local digests = {}
  for i = 1, n do digests[i] = next_digest() end
  return digests
end

local function next_body()
  bodies_taken = bodies_taken + 1
  return ARGV[3 + bodies_taken]
end

local ARGUMENTS = 1000 -- in one call; Lua's stack ends at 8000
local sums = {} -- prefix -> model -> slot -> counts

local function prefix_of(cell) return KEYS[places[cell[1]]] end

local function add(cell, counts)
  local prefix, model, slot = prefix_of(cell), cell[2], cell[3]
  local models = sums[prefix] or {}
  sums[prefix] = models
  local slots = models[model] or {}
  models[model] = slots
  local sum = slots[slot]
  if not sum then
    slots[slot] = {unpack(counts)}
  else
    for i = 1, width do sum[i] = sum[i] + counts[i] end
  end
end

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

-- Replicas' clocks differ, so that another may be one period ahead.
local function earlier_answer(key)
  for n = period - 1, period + 1 do
    local answer = redis.call('HGET', KEYS[1] .. ':keys:' .. n, key)
    if answer then return cmsgpack.unpack(answer) end
  end
end

local function remember_answer(key, answer)
  local answers = KEYS[1] .. ':keys:' .. period
  redis.call('HSET', answers, key, cmsgpack.pack(answer))
  redis.call('EXPIREAT', answers, forgotten_at)
end

-- Of the digests, those claimed before, as a set.
local function seen(prefix, digests)
  local found = {}
  for n = period - 1, period + 1 do
    local set = prefix .. ':seen:' .. n
    if redis.call('EXISTS', set) == 1 then
      for first = 1, #digests, ARGUMENTS do
        local last = math.min(first + ARGUMENTS - 1, #digests)
        local hits = redis.call('SMISMEMBER', set, unpack(digests, first, last))
        for i, hit in ipairs(hits) do
          if hit == 1 then found[digests[first + i - 1]] = true end
        end
      end
    end
  end
  return found
end

local function remember(prefix, digests)
  local set = prefix .. ':seen:' .. period
  for first = 1, #digests, ARGUMENTS do
    local last = math.min(first + ARGUMENTS - 1, #digests)
    redis.call('SADD', set, unpack(digests, first, last))
  end
  if #digests > 0 then redis.call('EXPIREAT', set, forgotten_at) end
end

-- Count the claims whose identity is new: how many, and a "1" or "0" for each claim.
local function claim(claims, digests)
  local asked, found, fresh = {}, {}, {}
  for i, one in ipairs(claims) do
    local prefix = prefix_of(one[1])
    asked[prefix] = asked[prefix] or {}
    table.insert(asked[prefix], digests[i])
  end
  for prefix, some in pairs(asked) do
    found[prefix], fresh[prefix] = seen(prefix, some), {}
  end
  local count, novel = 0, {}
  for i, one in ipairs(claims) do
    local prefix, digest = prefix_of(one[1]), digests[i]
    if found[prefix][digest] then
      novel[i] = '0'
    else
      novel[i] = '1'
      count = count + 1
      found[prefix][digest] = true
      table.insert(fresh[prefix], digest)
      add(one[1], one[2])
    end
  end
  for prefix, some in pairs(fresh) do remember(prefix, some) end
  return count, table.concat(novel)
end

-- What a cumulative counter rose by; empty when its past lies before all that is known here.
local function rise(level, digest)
  local started, cell, counts = unpack(level)
  local key = prefix_of(cell) .. ':level:' .. digest
  local stored = redis.call('GET', key)
  local before = stored and cmsgpack.unpack(stored) or {started, {}}
  local since, base = before[1], before[2]
  if started < since then base = counts end -- late, of a counter that has restarted since
  if started > since then base = {} end
  local rises, highest = {}, {}
  for i, n in ipairs(counts) do
    highest[i] = math.max(n, base[i] or 0) -- reports overtake each other
    rises[i] = highest[i] - (base[i] or 0)
  end
  if started >= since then
    redis.call('SET', key, cmsgpack.pack({started, highest}), 'EXAT', level_expires)
  end
  if not stored and started < known_since then return {} end
  return rises
end

local function count(batch)
  local keyed, accepted, rejected, increments, claims, counters, names = unpack(batch)
  local key = keyed and next_digest()
  local claim_digests, level_digests = next_digests(#claims), next_digests(#counters)
  local bodies = {}
  for i = 1, #names do bodies[i] = next_body() end

  local earlier = key and earlier_answer(key)
  if earlier then return {true, earlier[1], earlier[2], earlier[3], earlier[4], '', {}} end

  for _, one in ipairs(increments) do add(one[1], one[2]) end
  local fresh, novel = claim(claims, claim_digests)
  accepted = accepted + fresh
  local baselines, rises = 0, {}
  for i, level in ipairs(counters) do
    rises[i] = rise(level, level_digests[i])
    if #rises[i] == 0 then
      baselines = baselines + 1
    else
      accepted = accepted + 1
      add(level[2], rises[i])
    end
  end
  for i, name in ipairs(names) do
    local prefix, member = KEYS[places['']], 'd:' .. name
    changed(prefix, member)
    redis.call('SET', prefix .. ':' .. member, bodies[i])
  end
  local duplicates = #claims - fresh
  if key then remember_answer(key, {accepted, duplicates, baselines, rejected}) end
  return {false, accepted, duplicates, baselines, rejected, novel, rises}
end

local function write(prefix, models)
  version(prefix) -- totals have none of their own
  local totals, blocks = {}, {}
  local function plus(sum, at, n) sum[at] = (sum[at] or 0) + n end
  for model, slots in pairs(models) do
    for slot, counts in pairs(slots) do
      for kind = 0, width - 1 do
        local n = counts[kind + 1]
        if n > 0 then
          plus(totals, kind .. ':' .. model, n)
          for _, tier in ipairs(kind < width - 1 and tiers or {}) do
            local bin = math.floor(slot / tier[2])
            local number = math.floor(bin / tier[3])
            if number >= tier[4] then
              local member = tier[1] .. ':' .. number .. ':' .. kind
              local block = blocks[member]
              if not block then
                block = {bins = {}, expires = (number + 1) * tier[5] + tier[6]}
                blocks[member] = block
              end
              plus(block.bins, bin % tier[3], n)
            end
          end
        end
      end
    end
  end
  for field, n in pairs(totals) do
    redis.call('HINCRBY', prefix .. ':totals', field, string.format('%.0f', n))
  end
  for member, block in pairs(blocks) do
    local steps = {}
    for position, n in pairs(block.bins) do
      for _, word in ipairs({'INCRBY', 'i64', '#' .. position, string.format('%.0f', n)}) do
        steps[#steps + 1] = word
      end
    end
    redis.call('BITFIELD', prefix .. ':' .. member, unpack(steps))
    if changed(prefix, member) then
      redis.call('EXPIREAT', prefix .. ':' .. member, block.expires)
    end
  end
end

local answers = {}
for i, batch in ipairs(cmsgpack.unpack(ARGV[2])) do answers[i] = count(batch) end
for prefix, models in pairs(sums) do write(prefix, models) end
return cmsgpack.pack(answers)
