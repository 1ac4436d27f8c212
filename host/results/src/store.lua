-- KEYS[1]: celery-task-meta-<id>, also the channel   ARGV: the JSON, its lifetime in seconds or 0
-- A SUCCESS that is stored stays. Both Celery and Petiole write the status first, so that a large
-- result needs no parsing; another writer's JSON is parsed.
local head = redis.call('GETRANGE', KEYS[1], 0, 99)
local status = string.match(head, '^%s*{%s*"status"%s*:%s*"([^"\\]*)"')
if head ~= '' and not status then
  local ok, meta = pcall(cjson.decode, redis.call('GET', KEYS[1]))
  status = ok and type(meta) == 'table' and meta.status
end
if status == 'SUCCESS' then
  return 0
end
if ARGV[2] == '0' then
  redis.call('SET', KEYS[1], ARGV[1])
else
  redis.call('SETEX', KEYS[1], ARGV[2], ARGV[1])
end
redis.call('PUBLISH', KEYS[1], ARGV[1])
return 1
