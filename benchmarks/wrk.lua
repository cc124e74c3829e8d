-- Sends the requests in a file, one after another, and writes the results as JSON.
--
-- Arguments: the file with a request on each line (target, a tab, token); a mark; further fields.
-- With a mark, each target is unique: its query is the mark and a number.

local fronts, backs, mark, sent = {}, {}, "", 0

function init(arguments)
   local fields = "Host: " .. wrk.headers["Host"] .. "\r\n"
      .. "User-Agent: benchmark\r\nAccept-Encoding: gzip\r\n"
   for number = 3, #arguments do
      fields = fields .. arguments[number] .. "\r\n"
   end
   for line in io.lines(arguments[1]) do
      local target, token = line:match("^(%S+)\t(%S+)$")
      fronts[#fronts + 1] = "GET " .. target
      backs[#backs + 1] = " HTTP/1.1\r\n" .. fields .. "Authorization: token " .. token .. "\r\n\r\n"
   end
   mark = arguments[2]
   if mark == "" then
      for number, front in ipairs(fronts) do
         fronts[number] = front .. backs[number]
      end
   end
end

function request()
   local number = sent % #fronts + 1
   sent = sent + 1
   if mark == "" then
      return fronts[number]
   end
   return fronts[number] .. "?" .. mark .. "=" .. sent .. backs[number]
end

function done(summary, latency, _)
   local errors = summary.errors
   io.write(string.format(
      '\n{"responses": %d, "microseconds": %d, "size_bytes": %d, "p50": %d, "p99": %d, '
         .. '"connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d}\n',
      summary.requests, summary.duration, summary.bytes,
      latency:percentile(50), latency:percentile(99),
      errors.connect, errors.read, errors.write, errors.status, errors.timeout
   ))
end
