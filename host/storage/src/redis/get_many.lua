-- KEYS: the keys to read; ARGV[1]: bytes to return at most.
-- Returns the total size of the values, and the values unless that is too large.
local size = 0
for _, key in ipairs(KEYS) do
  size = size + redis.call('STRLEN', key)
end
if size > tonumber(ARGV[1]) then
  return {size, false}
end
return {size, redis.call('MGET', unpack(KEYS))}
