-- The fields of a ticket that the others use, and the milliseconds until it expires, or ''.
local fields = redis.call('HMGET', KEYS[1], 'policy', 'size', 'limit', 'data', 'owner', 'leased_until', 'expires_at')
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local left = redis.call('PTTL', KEYS[1])
if fields[7] then left = math.max(tonumber(fields[7]) - now, 0) end
local owner = tonumber(fields[6] or 0) > now and fields[5] or ''
return {
    redis.call('EXISTS', KEYS[1]) == 1 and 'found' or '', fields[1] or '', fields[2] or '', fields[3] or '',
    fields[4] or '', owner, left >= 0 and string.format('%.0f', left) or ''
}
