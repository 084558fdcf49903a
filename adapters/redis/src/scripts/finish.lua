-- Ends a lease, if it has not been lost.
-- ARGV: the owner of the lease; 1 if the object was delivered, else 0.
local fields = redis.call('HMGET', KEYS[1], 'owner', 'expires_at')
if fields[1] ~= ARGV[1] then return 0 end
if ARGV[2] == '1' then
    redis.call('DEL', KEYS[1])
    return 1
end
redis.call('HDEL', KEYS[1], 'owner', 'leased_until', 'expires_at')
-- A point in time that has passed removes the ticket.
if fields[2] then redis.call('PEXPIREAT', KEYS[1], fields[2]) end
return 1
