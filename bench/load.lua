-- POSTs BENCH_BODY with the headers of BENCH_HEADERS ("Name: value" lines) to BENCH_PATH; a %d in the
-- path is replaced by 0 to BENCH_SPREAD - 1 in turn. Prints one line of figures when it has ended.
local path = os.getenv("BENCH_PATH")
local spread = tonumber(os.getenv("BENCH_SPREAD"))
local headers = {}
for line in os.getenv("BENCH_HEADERS"):gmatch("[^\n]+") do
  local name, value = line:match("^([^:]+): (.*)$")
  headers[name] = value
end
local requests = {}
local turn = 0

function init()
  for number = 0, spread - 1 do
    requests[number] = wrk.format("POST", path:format(number), headers, os.getenv("BENCH_BODY"))
  end
end

function request()
  turn = (turn + 1) % spread
  return requests[turn]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format("figures %d %d %d %d %d\n", summary.requests, summary.duration,
    errors.status + errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
