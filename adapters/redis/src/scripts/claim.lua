-- Claims a ticket.
-- ARGV: the declared size, or ''; the most bytes that the server receives, or ''; the owner of the lease;
-- the time to live of the lease in milliseconds.
-- Returns the answer, the limit of the object or '', and the application's bytes or the malformed field.
local declared, limit, owner, ttl = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local fields = redis.call('HMGET', KEYS[1], 'policy', 'size', 'limit', 'data', 'leased_until', 'expires_at')
local policy, size, max = fields[1], fields[2], fields[3]
local data, leased_until, expires_at = fields[4] or '', tonumber(fields[5] or 0), tonumber(fields[6] or 0)

if not policy then
    if redis.call('EXISTS', KEYS[1]) == 0 then return {'refused', '', ''} end
    return {'malformed', '', 'policy'}
end
-- Sizes have up to 63 bits, more than a number holds here. So they are compared as text.
local function malformed(text) return not text:find('^%d+$') or text:find('^0%d') or #text > 19 end
local function above(a, b) return #a > #b or (#a == #b and a > b) end
if policy ~= 'once' and policy ~= 'until-delivered' then return {'malformed', '', 'policy'} end
if size and size ~= 'unknown' and malformed(size) then return {'malformed', '', 'size'} end
if max and malformed(max) then return {'malformed', '', 'limit'} end
if #data > 65536 then return {'malformed', '', 'data'} end

local now
if policy == 'until-delivered' then
    local time = redis.call('TIME')
    now = time[1] * 1000 + math.floor(time[2] / 1000)
    if expires_at > 0 and leased_until <= now and expires_at <= now then
        redis.call('DEL', KEYS[1])
        return {'refused', '', ''}
    end
end
if size and declared ~= (size == 'unknown' and '' or size) then return {'refused', '', ''} end
if max and (limit == '' or above(limit, max)) then limit = max end
if declared ~= '' and limit ~= '' and above(declared, limit) then return {'too large', limit, ''} end

if policy == 'once' then
    redis.call('DEL', KEYS[1])
    return {'once', limit, data}
end
if leased_until > now then return {'busy', '', ''} end
local left = redis.call('PTTL', KEYS[1])
if expires_at == 0 and left >= 0 then
    expires_at = now + left
    redis.call('HSET', KEYS[1], 'expires_at', string.format('%.0f', expires_at))
end
leased_until = string.format('%.0f', now + ttl)
redis.call('HSET', KEYS[1], 'owner', owner, 'leased_until', leased_until)
-- A transfer that has begun before the expiry goes on.
if expires_at > 0 then
    redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', math.max(expires_at, now + ttl)))
end
return {'leased', limit, data}
