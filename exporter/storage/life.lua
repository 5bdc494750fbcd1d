-- Whether a store is still the one that was opened, and what time its server has.
--
-- KEYS[1]  "llmq:created"
-- Returns {the mark of its creation or false, Unix seconds, microseconds}

local time = redis.call('TIME')
return {redis.call('GET', KEYS[1]), time[1], time[2]}
