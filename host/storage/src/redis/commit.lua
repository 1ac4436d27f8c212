-- KEYS: of each result celery-task-meta-<id>, also its channel; after them that of their run, unless the mode is "store"
-- ARGV: the results' lifetime in seconds or 0; the mode; of each result its JSON; after them, to commit or replace, the
-- run's record and its lifetime
-- Returns the record of an earlier commit, with nothing changed ("tell" returns none then); "replace" overwrites it.
local lifetime, mode = ARGV[1], ARGV[2]
local results = #KEYS

local function set(key, value, lifetime)
  if lifetime == '0' then
    redis.call('SET', key, value)
  else
    redis.call('SETEX', key, lifetime, value)
  end
end

-- A SUCCESS that is stored stays. Both Celery and Petiole write the status first, so that a large
-- result needs no parsing; another writer's JSON is parsed.
local function succeeded(key)
  local head = redis.call('GETRANGE', key, 0, 99)
  local status = string.match(head, '^%s*{%s*"status"%s*:%s*"([^"\\]*)"')
  if head ~= '' and not status then
    local ok, meta = pcall(cjson.decode, redis.call('GET', key))
    status = ok and type(meta) == 'table' and meta.status
  end
  return status == 'SUCCESS'
end

local run, record
if mode ~= 'store' then
  results = results - 1
  run, record = KEYS[#KEYS], ARGV[results + 3]
  local earlier = redis.pcall('GET', run)
  if type(earlier) == 'table' and mode ~= 'replace' then
    -- Somebody else's, of another type.
    return earlier
  end
  if earlier and earlier == record then
    -- This very commit, whose answer was lost.
    return false
  end
  if earlier and mode ~= 'replace' then
    return mode == 'commit' and earlier
  end
end
for place = 1, results do
  local key, json = KEYS[place], ARGV[place + 2]
  if not succeeded(key) then
    set(key, json, lifetime)
    redis.call('PUBLISH', key, json)
  elseif record and redis.call('GET', key) == json then
    -- Stored by a try of this very commit, which failed after it.
    redis.call('PUBLISH', key, json)
  end
end
-- Last: Redis undoes nothing when a script fails (a command that is no longer permitted), and a retry must not find
-- that all is done.
if record then
  set(run, record, ARGV[results + 4])
end
return false
