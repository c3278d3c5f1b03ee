-- For wrk: `wrk -s closed.lua URL -- BODIES PATH OUTPUT`. Sends the requests of a file in turn, for ever, and writes when each was answered,
-- with which status, and the latencies that wrk counted.
local ffi = require("ffi")
ffi.cdef("typedef struct { long s; long ns; } timespec_t; int clock_gettime(int clock, timespec_t *time);")
local moment = ffi.new("timespec_t")

local function now()
  ffi.C.clock_gettime(1, moment)
  return tonumber(moment.s) + tonumber(moment.ns) * 1e-9
end

local threads = {}
function setup(thread)
  table.insert(threads, thread)
end

function init(arguments)
  requests, position, started, answers, wrong = {}, 0, now(), {}, 0
  local headers = { ["Content-Type"] = "application/json" }
  for body in io.lines(arguments[1]) do
    table.insert(requests, wrk.format("POST", arguments[2], headers, body))
  end
  output = arguments[3]
end

function request()
  position = position % #requests + 1
  return requests[position]
end

function response(status)
  if status == 200 then
    table.insert(answers, string.format("%.6f", now() - started))
  else
    wrong = wrong + 1
  end
end

function done(summary, latency)
  local thread = threads[1]
  local file = assert(io.open(thread:get("output"), "w"))
  local errors = summary.errors
  file:write(string.format('{"wrong": %d, "errors": %d, "percentiles": {', thread:get("wrong"),
    errors.connect + errors.read + errors.write + errors.timeout))
  for number, percentile in ipairs({ 50, 95, 99 }) do
    file:write(string.format('%s"%d": %.3f', number > 1 and ", " or "", percentile, latency:percentile(percentile) / 1000))
  end
  file:write('}, "answers": [' .. table.concat(thread:get("answers"), ", ") .. "]}\n")
  file:close()
end
