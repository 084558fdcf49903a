-- Lets a lease last for its full time from now, if it has not been lost.
-- ARGV: the owner of the lease; its time to live in milliseconds.
local fields = redis.call('HMGET', KEYS[1], 'owner', 'expires_at')
if fields[1] ~= ARGV[1] then return 0 end
local time = redis.call('TIME')
local until_then = time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[2])
redis.call('HSET', KEYS[1], 'leased_until', string.format('%.0f', until_then))
if fields[2] then
    local expiry = math.max(tonumber(fields[2]), until_then)
    redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', expiry))
end
return 1
