-- wrk's script: cycles the requests of a file and prints what it measured as one line of JSON.
--   wrk ... -s cycle.lua URL -- BODIES START [HEADER: VALUE ...]
-- In every body a run of eight zeros is replaced by a number that grows from START, so that no cache knows the prompt.

local MARK = "00000000"
local heads, tails = {}, {}
local number = 0

function init(args)
  number = tonumber(args[2])
  wrk.method = "POST"
  wrk.headers["content-type"] = "application/json"
  for i = 3, #args do
    local name, value = args[i]:match("^(.-): (.*)$")
    wrk.headers[name] = value
  end
  for body in io.lines(args[1]) do
    local request = wrk.format(nil, nil, nil, body)
    local first, last = request:find(MARK, 1, true)
    heads[#heads + 1] = request:sub(1, first - 1)
    tails[#tails + 1] = request:sub(last + 1)
  end
end

function request()
  number = number + 1
  local i = number % #heads + 1
  return heads[i] .. string.format("%08d", number) .. tails[i]
end

function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('{"requests":%d,"duration_s":%f,"p50_ms":%f,"p99_ms":%f,"errors":%d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    e.connect + e.read + e.write + e.status + e.timeout))
end
