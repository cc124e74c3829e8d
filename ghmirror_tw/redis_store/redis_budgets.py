"""Budgets that the fleet shares, in Redis: who holds how much, in one hash for each budget."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from math import inf
from typing import Final

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from ghmirror_tw.redis.servers_interface import Command, Purpose, RedisUnavailableError
from ghmirror_tw.redis_store.redis_history import History
from ghmirror_tw.redis_store.redis_records import RedisRecords
from ghmirror_tw.redis_store.scripts import Script
from ghmirror_tw.store import record_names
from ghmirror_tw.store.store_interface import Bid, Budget, IBudgets, Part

#: Where there is not enough for all to go on at the same time, each may for so long, in ms.
TURN_MS: Final = 1000

#: KEYS: the budget, the complaint. ARGV: owner, number, held, demand, want, least, limit, life in
#: ms, turn in ms, 1 if it grows. Returns held, target, sharers, contended, for how many ms the
#: complaint counts.
#:
#: A row of the hash is what one process said last: held, demand, least, since when it has its
#: turn or waits for it, when it ends, number. Nobody's held is taken away: only what it says
#: itself lowers it, or its end. So the sum never grows over the limit; it is the target that says
#: who should let go. Times are the server's, for it has one clock.
BID: Final = Script(
    b"""
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local owner, number = ARGV[1], tonumber(ARGV[2])
local held, demand, want = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local least, limit = tonumber(ARGV[6]), tonumber(ARGV[7])
local life, turn, grows = tonumber(ARGV[8]), tonumber(ARGV[9]), ARGV[10] == '1'
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then redis.call('DEL', KEYS[1]) end
local me = {owner, held, demand, least, now}
local all, free = {me}, limit - held
local rows = redis.call('HGETALL', KEYS[1])
for i = 1, #rows, 2 do
  local h, d, l, s, e, n = string.match(rows[i + 1], '^(%d+) (%d+) (%d+) (%d+) (%d+) (%d+)$')
  if not h or tonumber(e) <= now then redis.call('HDEL', KEYS[1], rows[i])
  elseif rows[i] == owner then
    -- an old bid that was late
    if tonumber(n) >= number then
      return {tonumber(h), tonumber(h), redis.call('HLEN', KEYS[1]), 1, 0}
    end
    me[5] = tonumber(s)
    if grows and tonumber(h) > held then
      free = free - (tonumber(h) - held)
      held = tonumber(h)
      me[2] = held
    end
  else
    all[#all + 1] = {rows[i], tonumber(h), tonumber(d), tonumber(l), tonumber(s)}
    free = free - tonumber(h)
  end
end
local complained = math.max(redis.call('PTTL', KEYS[2]), 0)
if demand == 0 and held == 0 then
  redis.call('HDEL', KEYS[1], owner)
  return {0, 0, #all, 0, complained}
end

-- What each may have, so that nobody gets more while another gets less than it needs: up to the
-- level, or the least with which it can go on.
local function fair(each, level) return math.min(each[3], math.max(each[4], level)) end
local function sum(level)
  local total = 0
  for _, each in ipairs(all) do total = total + fair(each, level) end
  return total
end
local scarce, level = sum(0) > limit, limit
if sum(limit) > limit then
  local low, high = 0, limit
  while high - low > 1 do
    local middle = math.floor((low + high) / 2)
    if sum(middle) <= limit then low = middle else high = middle end
  end
  level = low
end

local target, contended = want, scarce
if scarce then
  -- not all can go on at the same time: they take turns, those first who wait longest
  local going = held >= least
  if going and now - me[5] >= turn then
    me[5] = now
    going = false
  end
  local order = {}
  for i, each in ipairs(all) do
    local goes = going
    if i > 1 then goes = each[2] >= each[4] and now - each[5] < turn end
    order[i] = {each, goes and 0 or 1}
  end
  table.sort(order, function(a, b)
    if a[2] ~= b[2] then return a[2] < b[2] end
    if a[1][5] ~= b[1][5] then return a[1][5] < b[1][5] end
    return a[1][1] < b[1][1]
  end)
  local left = limit
  target = 0
  for _, each in ipairs(order) do
    if each[1][4] <= left then
      left = left - each[1][4]
      if each[1] == me then target = least end
    end
  end
else
  -- more may be held than there is when this server has lost what it knew
  if free < 0 then contended = true end
  for i, each in ipairs(all) do
    if i > 1 and each[2] < fair(each, level) then contended = true end
  end
  if contended then target = fair(me, level)
  else
    -- more than it needs only out of what nobody is likely to miss
    local spare = math.max(math.floor((free + held - demand) / 2), 0)
    target = math.min(want, demand + spare)
  end
end
if target > held then
  local got = math.max(math.min(target - held, free), 0)
  -- less than it takes to go on is of no use to it, and may be to others
  if held + got >= math.min(least, target) then
    if held < least then me[5] = now end
    held = held + got
  end
end
if held < fair(me, level) then contended = true end
redis.call('HSET', KEYS[1], owner,
  string.format('%.0f %.0f %.0f %.0f %.0f %.0f', held, demand, least, me[5], now + life, number))
if redis.call('PTTL', KEYS[1]) < life then redis.call('PEXPIRE', KEYS[1], life) end
return {held, target, #all, contended and 1 or 0, complained}
"""
)


@implementer(IBudgets)
@define(eq=False)
class RedisBudgets:
    """Shares budgets with all processes that have the same Redis, within *timeout_s* a bid.

    The *history* of the servers counts these processes.
    """

    records: RedisRecords
    timeout_s: float
    history: History
    turn_ms: int = TURN_MS
    alone: bool = False
    _bid_at: float = field(init=False, default=-inf)
    _log: Logger = field(factory=lambda: Logger(namespace="ghmirror.store"))

    @property
    def members(self) -> int:
        """How many replicas share the budgets, as last known; 0: not known."""
        return self.history.members

    @property
    def responded_at(self) -> float:
        """When Redis last responded, in seconds since the epoch."""
        return max(self._bid_at, self.history.looked_at)

    def bid(self, budget: Budget, bid: Bid) -> Deferred[Part]:
        """Have the server weigh what everybody wants."""
        return Deferred.fromCoroutine(self._bid(budget, bid))

    async def _bid(self, budget: Budget, bid: Bid) -> Part:
        credential = budget.credential
        keys = self.records.keys(
            record_names.budget(credential, budget.kind), record_names.complaint(credential)
        )
        numbers = (bid.number, bid.held, bid.demand, bid.want, bid.least, budget.limit)
        command = BID.call(
            keys,
            bid.owner.encode("ascii"),
            *(
                b"%d" % each
                for each in (*numbers, round(bid.life_s * 1000), self.turn_ms, bid.grows)
            ),
        )
        held, target, sharers, contended, complained_ms = await self._write(credential, command)
        self._bid_at = self.records.now()
        return Part(held, target, sharers, bool(contended), complained_ms / 1000)

    async def _write(self, credential: str, command: Command) -> list[int]:
        slot = record_names.slot_of_credential(credential)
        servers = self.records.servers
        (reply,) = await servers.ask(slot, (command,), Purpose.WRITE, self.timeout_s)
        if isinstance(reply, Exception):
            raise RedisUnavailableError("refused", str(reply))
        return list(reply)

    def complain(self, credential: str, for_s: float) -> None:
        """Note a complaint, for all to see; who can't is not heard."""
        key = self.records.key(record_names.complaint(credential))
        command = Command((b"SET", key, b"1", b"PX", b"%d" % max(1, round(for_s * 1000))))
        slot = record_names.slot_of_credential(credential)
        self._tell(
            lambda: self.records.servers.ask(slot, (command,), Purpose.WRITE, self.timeout_s)
        )

    def _tell(self, write: Callable[[], Awaitable[object]]) -> None:
        async def told() -> None:
            await write()

        def failed(failure: Failure) -> None:
            if not failure.check(RedisUnavailableError):
                self._log.failure("Writing to Redis failed", failure=failure)

        Deferred.fromCoroutine(told()).addErrback(failed)
