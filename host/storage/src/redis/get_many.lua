-- KEYS: what to read; ARGV[1]: how many bytes at most.
-- Returns the size of all values, and the values unless they are too large together.
local size = 0
for _, key in ipairs(KEYS) do
  size = size + redis.call('STRLEN', key)
end
if size > tonumber(ARGV[1]) then
  return {size, false}
end
return {size, redis.call('MGET', unpack(KEYS))}
