"""Semaphores that the fleet shares, in Redis: one hash for each, with a lease for each replica."""

from __future__ import annotations

from math import inf
from typing import Final

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from ghmirror_tw.redis import Command, Purpose, RedisUnavailableError
from ghmirror_tw.redis_store.loss_detection import History
from ghmirror_tw.redis_store.redis_records import RedisRecords
from ghmirror_tw.redis_store.scripts import Script
from ghmirror_tw.store import record_names
from ghmirror_tw.store.permit_lease_interface import (
    Capacity,
    IFleetSemaphores,
    LeaseRequest,
    PermitLease,
)

#: How long a replica may keep its permits where there are fewer than replicas, in milliseconds.
TURN_MS: Final = 1000

#: KEYS: the semaphore, the note of a secondary limit. ARGV: owner, number, held, demand, want,
#: least, limit, lease in ms, turn in ms. Returns held, target, replicas, contended, for how many ms
#: the secondary limit counts.
#:
#: A row of the hash is the lease of one replica: held, demand, least, the start of its turn or of
#: its wait, end, number of its last request. Only the replica itself lowers what it holds, or the
#: end of its lease does, so the sum never rises above the limit. Times are by the server's clock.
RENEW_PERMITS: Final = Script(
    b"""
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local owner, number, want = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[5])
local limit, lease, turn = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local me = {owner = owner, held = tonumber(ARGV[3]), demand = tonumber(ARGV[4]),
  least = tonumber(ARGV[6]), since = now}
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then redis.call('DEL', KEYS[1]) end
local all, free = {me}, limit - me.held
local rows = redis.call('HGETALL', KEYS[1])
for i = 1, #rows, 2 do
  local held, demand, least, since, ends, last =
    string.match(rows[i + 1], '^(%d+) (%d+) (%d+) (%d+) (%d+) (%d+)$')
  if not held or tonumber(ends) <= now then redis.call('HDEL', KEYS[1], rows[i])
  elseif rows[i] == owner then
    -- a delayed request
    if tonumber(last) >= number then return {tonumber(held), tonumber(held), #rows / 2, 1, 0} end
    me.since = tonumber(since)
  else
    all[#all + 1] = {owner = rows[i], held = tonumber(held), demand = tonumber(demand),
      least = tonumber(least), since = tonumber(since)}
    free = free - tonumber(held)
  end
end
local limited = math.max(redis.call('PTTL', KEYS[2]), 0)
if me.demand == 0 and me.held == 0 then
  redis.call('HDEL', KEYS[1], owner)
  return {0, 0, #all, 0, limited}
end

-- max-min fairness: each replica has what it needs, up to a level, but not less than its least
local level, high = 0, limit + 1
local function fair(each) return math.min(each.demand, math.max(each.least, level)) end
local function sum()
  local total = 0
  for _, each in ipairs(all) do total = total + fair(each) end
  return total
end
local scarce = sum() > limit
while high - level > 1 and not scarce do
  local low = level
  level = math.floor((low + high) / 2)
  if sum() > limit then level, high = low, level end
end

local target, contended = 0, scarce
if scarce then
  -- less than each needs: replicas take turns, first those whose turn lasts, then by waiting time
  local over = me.held >= me.least and now - me.since >= turn
  if over then me.since = now end
  local function waits(each)
    return (each == me and over) or each.held < each.least or now - each.since >= turn
  end
  local i_wait, ahead = waits(me), 0
  for _, each in ipairs(all) do
    local first = each.since < me.since or (each.since == me.since and each.owner < owner)
    if waits(each) ~= i_wait then first = i_wait end
    if first and each ~= me then ahead = ahead + each.least end
  end
  if ahead + me.least <= limit then target = me.least end
else
  -- a server that has lost its memory may learn of more than the limit
  contended = free < 0
  for _, each in ipairs(all) do
    if each ~= me and each.held < fair(each) then contended = true end
  end
  -- spare permits come out of one half of what is left
  local spare = math.max(math.floor((free + me.held - me.demand) / 2), 0)
  target = contended and fair(me) or math.min(want, me.demand + spare)
end
local got = math.max(math.min(target - me.held, free), 0)
-- fewer than the least are of no use to this replica, and may be to others
if got > 0 and me.held + got >= math.min(me.least, target) then
  if me.held < me.least then me.since = now end
  me.held = me.held + got
end
if me.held < fair(me) then contended = true end
redis.call('HSET', KEYS[1], owner, string.format('%.0f %.0f %.0f %.0f %.0f %.0f',
  me.held, me.demand, me.least, me.since, now + lease, number))
if redis.call('PTTL', KEYS[1]) < lease then redis.call('PEXPIRE', KEYS[1], lease) end
return {me.held, target, #all, contended and 1 or 0, limited}
"""
)


@implementer(IFleetSemaphores)
@define(eq=False)
class RedisSemaphores:
    """Semaphores shared by all processes with the same Redis; one call takes *timeout_s* at most.

    The *history* of the servers counts these processes.
    """

    records: RedisRecords
    timeout_s: float
    history: History
    turn_ms: int = TURN_MS
    #: When Redis last renewed a lease, in seconds since the epoch.
    renewed_at: float = field(init=False, default=-inf)
    _log: Logger = field(factory=lambda: Logger(namespace="ghmirror.store"))

    @property
    def members(self) -> int:
        """The number of replicas, as last known; 0: not known."""
        return self.history.members

    @property
    def responded_at(self) -> float:
        """When Redis last responded, in seconds since the epoch."""
        return max(self.renewed_at, self.history.looked_at)

    def renew(self, capacity: Capacity, request: LeaseRequest) -> Deferred[PermitLease]:
        """Renew the lease of a replica in one round trip."""
        return Deferred.fromCoroutine(self._renew(capacity, request))

    async def _renew(self, capacity: Capacity, request: LeaseRequest) -> PermitLease:
        keys = self.records.keys(
            record_names.semaphore(capacity.credential, capacity.kind),
            record_names.secondary_limit(capacity.credential),
        )
        lease_ms = round(request.lease_s * 1000)
        sizes = (request.held, request.demand, request.want, request.least, capacity.limit)
        numbers = (request.number, *sizes, lease_ms, self.turn_ms)
        owner = request.owner.encode("ascii")
        command = RENEW_PERMITS.call(keys, owner, *(b"%d" % each for each in numbers))
        held, target, replicas, contended, limited_ms = await self._execute(
            capacity.credential, command
        )
        self.renewed_at = self.records.now()
        return PermitLease(held, target, replicas, bool(contended), limited_ms / 1000)

    async def _execute(self, credential: str, command: Command) -> list[int]:
        hash_tag = record_names.hash_tag_of_credential(credential)
        servers = self.records.servers
        (reply,) = await servers.send(hash_tag, (command,), Purpose.WRITE, self.timeout_s)
        if isinstance(reply, Exception):
            raise RedisUnavailableError("refused", str(reply))
        return list(reply)

    def note_secondary_limit(self, credential: str, for_s: float) -> None:
        """Store that GitHub limited a credential; without Redis it is not stored."""
        key = self.records.key(record_names.secondary_limit(credential))
        life_ms = b"%d" % max(1, round(for_s * 1000))
        command = Command((b"SET", key, b"1", b"PX", life_ms))
        hash_tag, servers = record_names.hash_tag_of_credential(credential), self.records.servers

        def failed(failure: Failure) -> None:
            if not failure.check(RedisUnavailableError):
                self._log.failure("Writing to Redis failed", failure=failure)

        storing = servers.send(hash_tag, (command,), Purpose.WRITE, self.timeout_s)
        storing.addErrback(failed)
