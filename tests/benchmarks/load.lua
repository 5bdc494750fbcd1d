-- wrk -s load.lua URL -- SCENARIO SEED [PROVIDERS MODELS]
--
-- Every request is a text that was prepared before, joined by a number wherever something has to
-- be new (an id, a key), so that making the load costs little.

local MARK = "##########"
local BATCH = 1000
local JSON = { ["Content-Type"] = "application/json" }
local NDJSON = { ["Content-Type"] = "application/x-ndjson", ["Idempotency-Key"] = "batch-" .. MARK }
local KEYED = { ["Content-Type"] = "application/json", ["Idempotency-Key"] = "push-" .. MARK }
local TEXT = { ["Content-Type"] = "text/plain" }

local function ten(make)
  local made = {}
  for i = 1, 10 do made[i] = make(i) end
  return made
end

local function event(i, id)
  return ('{%s"provider":"provider-%d","model":"model","tokens":%d}'):format(id, i % 10, 1500 + i)
end

local function lines(make)
  local made = {}
  for i = 1, BATCH do made[i] = make(i) end
  return table.concat(made, "\n") .. "\n"
end

local function line(i, id)
  return ('{%s"provider":"provider-%d","model":"model-%d","input_tokens":%d,"output_tokens":%d}')
    :format(id, i % 10, i % 7, 1000 + i, i)
end

local function sample(i)
  return ('llm_tokens{provider="provider-%d",model="model-%d",n="%d"} %d')
    :format(i % 10, i % 7, i % 70, 1000 + i)
end

-- One of each of so many providers and models, in an order that is no order.
local function questions(providers, models, make)
  local made, count = {}, providers * models
  for i = 0, count - 1 do
    local at = i * 7919 % count
    made[#made + 1] = wrk.format("GET", make(at % providers, math.floor(at / providers)))
  end
  return made
end

local scenarios = {
  availability = function(seed, providers, models)
    return questions(providers, models, function(provider, model)
      return ("/v1/availability?provider=provider-%d&model=model-%d"):format(provider, model)
    end)
  end,
  provider = function(seed, providers, models)
    return questions(providers, 1, function(provider)
      return ("/v1/providers/provider-%d"):format(provider)
    end)
  end,
  exhausted = function(seed)
    return { wrk.format("GET", "/v1/exhausted") }
  end,
  healthy = function(seed)
    return { wrk.format("GET", "/-/healthy") }
  end,
  single = function(seed)
    return ten(function(i) return wrk.format("POST", "/v1/usage", JSON, event(i, "")) end)
  end,
  single_id = function(seed)
    local id = '"id":"chatcmpl-' .. seed .. "-" .. MARK .. '",'
    return ten(function(i) return wrk.format("POST", "/v1/usage", JSON, event(i, id)) end)
  end,
  single_key = function(seed)
    KEYED["Idempotency-Key"] = "push-" .. seed .. "-" .. MARK
    return ten(function(i) return wrk.format("POST", "/v1/usage", KEYED, event(i, "")) end)
  end,
  batch = function(seed)
    NDJSON["Idempotency-Key"] = "batch-" .. seed .. "-" .. MARK
    local body = lines(function(i) return line(i, "") end)
    return { wrk.format("POST", "/v1/usage", NDJSON, body) }
  end,
  batch_id = function(seed)
    NDJSON["Idempotency-Key"] = "batch-" .. seed .. "-" .. MARK
    local body = lines(function(i)
      return line(i, ('"id":"chatcmpl-%s-%s-%d",'):format(seed, MARK, i))
    end)
    return { wrk.format("POST", "/v1/usage", NDJSON, body) }
  end,
  pushgateway = function(seed)
    return ten(function(i)
      local body = ('# TYPE llm_tokens counter\nllm_tokens{model="model"} %d\n'):format(1500 + i)
      return wrk.format("PUT", "/metrics/job/provider-" .. i % 10, TEXT, body)
    end)
  end,
  victoria_metrics = function(seed)
    return { wrk.format("POST", "/api/v1/import/prometheus", TEXT, lines(sample)) }
  end,
}

-- The text cut at its marks.
local function pieces(text)
  local found, from = {}, 1
  while true do
    local at, to = text:find(MARK, from, true)
    if not at then break end
    found[#found + 1] = text:sub(from, at - 1)
    from = to + 1
  end
  found[#found + 1] = text:sub(from)
  return found
end

local prepared, turn, number = {}, 0, 1000000000

function init(args)
  for i, text in ipairs(scenarios[args[1]](args[2], tonumber(args[3]), tonumber(args[4]))) do prepared[i] = pieces(text) end
end

function request()
  turn = turn % #prepared + 1
  number = number + 1
  return table.concat(prepared[turn], tostring(number))
end

function done(summary, latency)
  local errors = summary.errors
  io.write(("RESULT %d %d %d %d\n"):format(
    summary.requests, summary.duration, latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
