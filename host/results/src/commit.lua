-- KEYS: of each result celery-task-meta-<id>, also its channel; after them, with a commit, that of its run
-- ARGV: their lifetime in seconds or 0; of each result its JSON; after them, with a commit, its record, and 1 where
-- it replaces another. Where the run has another record, answers that, and changes nothing.
local lifetime = ARGV[1]
local results = #KEYS

local function set(key, value)
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

if #ARGV > results + 1 then
  results = results - 1
  local run, record, replaces = KEYS[#KEYS], ARGV[#ARGV - 1], ARGV[#ARGV]
  local earlier = replaces == '0' and redis.call('GET', run)
  if earlier and earlier ~= record then
    return earlier
  end
  set(run, record)
end
for place = 1, results do
  local key, json = KEYS[place], ARGV[place + 1]
  if not succeeded(key) then
    set(key, json)
    redis.call('PUBLISH', key, json)
  end
end
return false
