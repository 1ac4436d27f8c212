-- KEYS[1]: the key; ARGV[1]: its new value; ARGV[2]: bytes to return at most; ARGV[3]: its expected value,
-- left out to expect no such key.
-- Returns 1 if it was swapped; else 0, the size of the current value, and that value unless it is too large.
local current = redis.call('GET', KEYS[1])
if current == (ARGV[3] or false) then
  redis.call('SET', KEYS[1], ARGV[1])
  return {1, 0, false}
end
if not current then
  return {0, 0, false}
end
if #current > tonumber(ARGV[2]) then
  return {0, #current, false}
end
return {0, #current, current}
