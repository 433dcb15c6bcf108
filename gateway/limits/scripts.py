"""The two Lua scripts that count in a Valkey or Redis server: all limits of one request in one step. Text only.

Keys: the request's own (`KEYS[1]`), then one by limit. All carry the same hash tag, so that a cluster keeps them in one
slot: a request touches its key's and its expert's limits at once, and only one node can do that in one step.

By kind (`r` a level that drains, `c` requests at once, `d` and `m` money of day and month), a limit's key holds
`LEVEL:MICROSECONDS`, a sorted set of requests by when they expire, or `PERIOD:BILLIONTHS`. The server's clock counts,
so gateways need not agree on the time. A request's own key says that it was taken, and when (`DAY:MONTH`), or that it
is over (`x`): so a settlement counts once however often it is sent, and a request that arrives after its settlement,
because it was stuck on a slow connection, is not taken any more.
"""

from __future__ import annotations

_COMMON = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local day = math.floor(time[1] / 86400)
-- The civil calendar (days_from_civil backwards, Howard Hinnant).
local z = day + 719468
local era = math.floor(z / 146097)
local doe = z - era * 146097
local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
local mp = math.floor((5 * doy + 2) / 153)
local civil = mp < 10 and mp + 3 or mp - 9
local month = (yoe + era * 400 + (civil <= 2 and 1 or 0)) * 12 + civil - 1

local function text(number) return string.format('%.17g', number) end

local function pair(key)
  local held = redis.call('GET', key)
  if not held then return nil end
  local one, other = string.match(held, '^(.-):(.+)$')
  return tonumber(one), tonumber(other)
end

local function drained(key, limit)
  local level, at = pair(key)
  if not level then return 0 end
  return math.max(0, level - math.max(0, now - at) * limit / 60000000)
end

local function keep_level(key, level, limit)
  if level <= 0 then redis.call('DEL', key) return end
  redis.call('SET', key, text(level) .. ':' .. text(now), 'PX', math.ceil(level / limit * 60000) + 1000)
end

-- A clock that was set back does not bring the period before back.
local function spent(key, period)
  local held, nanos = pair(key)
  if held == period or held == period + 1 then return held, nanos end
  return period, 0
end

local function keep_spent(key, period, nanos, days)
  redis.call('SET', key, text(period) .. ':' .. text(math.max(0, nanos)), 'EX', days * 86400)
end
"""

RESERVE = (
    _COMMON
    + """
-- ARGV: id, milliseconds to hold, then by limit: kind, limit, amount.
local id, hold = ARGV[1], tonumber(ARGV[2])
if redis.call('EXISTS', KEYS[1]) == 1 then return {'-1'} end
local levels, periods, fits = {}, {}, true
for i = 2, #KEYS do
  local kind, limit, amount = ARGV[i * 3 - 3], tonumber(ARGV[i * 3 - 2]), tonumber(ARGV[i * 3 - 1])
  local level
  if kind == 'r' then
    level = drained(KEYS[i], limit)
  elseif kind == 'c' then
    redis.call('ZREMRANGEBYSCORE', KEYS[i], '-inf', now / 1000)
    level = redis.call('ZCARD', KEYS[i])
  else
    periods[i], level = spent(KEYS[i], kind == 'd' and day or month)
  end
  levels[i] = level
  -- What costs nothing fits every budget.
  local money = kind == 'd' or kind == 'm'
  if level + amount > limit + 0.000001 and not (money and amount == 0) then fits = false end
end
local reply = {fits and '1' or '0', text(day), text(month), text(now)}
for i = 2, #KEYS do
  local kind, limit, amount = ARGV[i * 3 - 3], tonumber(ARGV[i * 3 - 2]), tonumber(ARGV[i * 3 - 1])
  if fits then
    levels[i] = levels[i] + amount
    if kind == 'r' then
      keep_level(KEYS[i], levels[i], limit)
    elseif kind == 'c' then
      redis.call('ZADD', KEYS[i], now / 1000 + hold, id)
      redis.call('PEXPIRE', KEYS[i], hold + 1000)
    elseif amount > 0 then
      keep_spent(KEYS[i], periods[i], levels[i], kind == 'd' and 2 or 62)
    end
  end
  reply[#reply + 1] = text(levels[i])
end
if fits then redis.call('SET', KEYS[1], text(day) .. ':' .. text(month), 'PX', hold) end
return reply
"""
)
"""Returns strings: `1` taken, `0` it does not fit, `-1` it is over already; day, month, microseconds; every level."""

SETTLE = (
    _COMMON
    + """
-- ARGV: id, milliseconds to hold, whether to charge it all when it was not taken, then by limit: kind, limit, what to
-- add when it was taken, what to add when it was not.
local id, hold, late = ARGV[1], tonumber(ARGV[2]), ARGV[3] == '1'
local held = redis.call('GET', KEYS[1])
if held == 'x' then return 0 end
redis.call('SET', KEYS[1], 'x', 'PX', hold)
if not held and not late then return 0 end
local then_day, then_month = day, month
if held then
  local one, other = string.match(held, '^(.-):(.+)$')
  then_day, then_month = tonumber(one), tonumber(other)
end
for i = 2, #KEYS do
  local kind, limit = ARGV[i * 4 - 4], tonumber(ARGV[i * 4 - 3])
  local more = tonumber(held and ARGV[i * 4 - 2] or ARGV[i * 4 - 1])
  if kind == 'c' then
    redis.call('ZREM', KEYS[i], id)
  elseif more ~= 0 then
    if kind == 'r' then
      -- An answer longer than estimated locks a key for ten minutes at most.
      keep_level(KEYS[i], math.min(drained(KEYS[i], limit) + more, 10 * limit), limit)
    else
      local current, wanted = day, then_day
      if kind == 'm' then current, wanted = month, then_month end
      local period, nanos = spent(KEYS[i], current)
      -- What was taken yesterday is no longer of interest.
      if period == wanted or not held then
        keep_spent(KEYS[i], period, nanos + more, kind == 'd' and 2 or 62)
      end
    end
  end
end
return 1
"""
)
"""Returns 1 when it counted, 0 when there was nothing to settle or it had been settled."""
