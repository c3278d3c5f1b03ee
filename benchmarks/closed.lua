-- For wrk: `wrk -s closed.lua URL -- BODIES PATH SECONDS FEWEST OUTPUT`. Sends the bodies of a file in turn and writes when
-- each was answered, what was not answered with 200, and the latencies that wrk counted. It ends after so many seconds, or
-- later with so many answers (wrk begun again would meet the texts it gave up), and never within a batch.
local ffi = require("ffi")
ffi.cdef([[
  typedef struct { long s; long ns; } moment_t;
  int clock_gettime(int clock, moment_t *moment);
  int kill(int process, int signal);
  int getpid(void);
]])
local MONOTONIC, INTERRUPT = 1, 2
local BURST = 0.25 -- seconds in which all of a batch is answered
local moment = ffi.new("moment_t")

local function now()
  ffi.C.clock_gettime(MONOTONIC, moment)
  return tonumber(moment.s) + tonumber(moment.ns) * 1e-9
end

local threads = {}
function setup(thread)
  table.insert(threads, thread)
end

function init(arguments)
  requests, position, started, answers, wrong, ending, over = {}, 0, now(), {}, 0, nil, false
  local headers = { ["Content-Type"] = "application/json" }
  for body in io.lines(arguments[1]) do
    table.insert(requests, wrk.format("POST", arguments[2], headers, body))
  end
  limit, fewest, output = tonumber(arguments[3]), tonumber(arguments[4]), arguments[5]
end

function request()
  position = position % #requests + 1
  return requests[position]
end

function response(status)
  if over then
    return
  end
  local elapsed = now() - started
  if ending and elapsed > ending + BURST then
    over = true
    ffi.C.kill(ffi.C.getpid(), INTERRUPT)
    return
  end
  if not ending and elapsed >= limit and #answers + wrong >= fewest then
    ending = elapsed
  end
  if status == 200 then
    table.insert(answers, string.format("%.6f", elapsed))
  else
    wrong = wrong + 1
  end
end

function done(summary, latency)
  local thread, errors, percentiles = threads[1], summary.errors, {}
  for _, percentile in ipairs({ 50, 95, 99 }) do
    table.insert(percentiles, string.format('"%d": %.3f', percentile, latency:percentile(percentile) / 1000))
  end
  local file = assert(io.open(thread:get("output"), "w"))
  file:write(string.format('{"wrong": %d, "errors": %d, "percentiles": {%s}, "answers": [%s]}\n', thread:get("wrong"),
    errors.connect + errors.read + errors.write + errors.timeout, table.concat(percentiles, ", "),
    table.concat(thread:get("answers"), ", ")))
  file:close()
end
