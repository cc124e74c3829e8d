"""Lua scripts: writes that depend on what is stored, in one atomic step on the server.

Scripts read only the headers of sealed records (see `record_sealing`): magic, version and two
times. Records of a newer version are not changed. Values that are not records may be replaced.
"""

from __future__ import annotations

import hashlib
from typing import Final

from attrs import field, frozen

from ghmirror_tw.caching.hybrid_clock import MOST_AHEAD_S
from ghmirror_tw.caching.records import RECENCY_LENGTH
from ghmirror_tw.redis import Command
from ghmirror_tw.store.record_sealing import MAGIC, VERSION


@frozen
class Script:
    """A script, called by its hash; its source is sent to a server that does not have it."""

    source: bytes = field(repr=False)
    digest: bytes = field(init=False)

    def __attrs_post_init__(self) -> None:
        digest = hashlib.sha1(self.source, usedforsecurity=False).hexdigest()
        object.__setattr__(self, "digest", digest.encode("ascii"))

    def call(self, keys: tuple[bytes, ...], *arguments: bytes) -> Command:
        """Return the command that runs the script with *keys* and *arguments*."""
        count = b"%d" % len(keys)
        return Command((b"EVALSHA", self.digest, count, *keys, *arguments), self.source)


# The version, first time and second time of a record; 0 for any other value, such as an error.
_READ: Final = b"""
local byte, unpack = string.byte, struct.unpack
local function read(blob)
  if not blob or #blob < 20 then return 0 end
  local magic, version = byte(blob, 1, 2)
  if magic ~= %d then return 0 end
  return version, unpack('>dd', blob, 5)
end
local function newer(blob) return read(blob) > %d end
-- Whether a stored time is at or after another one; a time too far ahead (see hybrid_clock) is not.
local function as_late(stored, at) return stored and stored >= at and stored <= at + %d end
""" % (MAGIC, VERSION, MOST_AHEAD_S)

#: KEYS: grant, refusal, unstorable, recency list, and the negative response, if such are stored.
#: Returns all of them as one MessagePack array: one bulk string is parsed faster than ten.
LOOK_UP: Final = Script(
    b"""
local function get(key)
  local value = redis.pcall('GET', key)
  if type(value) == 'string' then return value end
  return ''
end
local entries = redis.pcall('HVALS', KEYS[4])
if entries.err then entries = {} end
local negative = KEYS[5] and get(KEYS[5]) or ''
return cmsgpack.pack(
  {get(KEYS[1]), get(KEYS[2]), redis.call('EXISTS', KEYS[3]), entries, negative})
"""
)

# Stores a grant, unless a later one is stored, or a refusal of a request that was sent as late.
_PUT_GRANT: Final = (
    b"""
local function put_grant(key, refusal, grant, life)
  local _, requested_at = read(grant)
  local old = redis.pcall('GET', key)
  local version, known = read(old)
  local _, refused = read(redis.pcall('GET', refusal))
  if version > %d or as_late(known, requested_at) or as_late(refused, requested_at) then
    return 0
  end
  redis.call('SET', key, grant, 'PX', life)
  return 1
end
"""
    % VERSION
)

# Stores an entry of a recency list. The entry with the latest validation is listed, and the one
# with the latest 200 beside it, if that is another one. Of a list that is too long, the entries
# with the oldest validations are removed. A listed entry is not replaced by a renewal, which is
# later by less than so many seconds.
_PUT_ENTRY: Final = b"""
local function put_entry(list, digest, entry, life, again)
  local brought = 'b' .. digest
  local listed = redis.pcall('HMGET', list, digest, brought)
  if listed.err then
    if redis.call('TYPE', list).ok ~= 'hash' then redis.call('DEL', list) end
    listed = redis.call('HMGET', list, digest, brought)
  end
  local put = 0
  local version, validated_at, brought_at = read(listed[1])
  local version_too, validated_at_too, brought_at_too = read(listed[2])
  if version <= %d and version_too <= %d then
    local latest, brings = entry, entry
    local _, latest_at, brings_at = read(entry)
    if validated_at and again > 0 and latest_at - validated_at < again
      and brings_at <= brought_at then return 0 end
    if validated_at then
      if validated_at > latest_at then latest, latest_at = listed[1], validated_at end
      if brought_at > brings_at then brings, brings_at = listed[1], brought_at end
    end
    if validated_at_too then
      if validated_at_too > latest_at then latest = listed[2] end
      if brought_at_too > brings_at then brings = listed[2] end
    end
    if latest == entry and listed[1] ~= entry then put = 1 end
    redis.call('HSET', list, digest, latest)
    if brings == latest then
      if listed[2] then redis.call('HDEL', list, brought) end
    else redis.call('HSET', list, brought, brings) end
  end
  if not listed[1] and redis.call('HLEN', list) > %d then
    local all, ranks = redis.call('HGETALL', list), {}
    for i = 1, #all, 2 do
      if #all[i] == #digest then
        local _, at = read(all[i + 1])
        ranks[#ranks + 1] = {at or 0, all[i]}
      end
    end
    table.sort(ranks, function(a, b) return a[1] > b[1] end)
    for i = %d, #ranks do redis.call('HDEL', list, ranks[i][2], 'b' .. ranks[i][2]) end
  end
  redis.call('PEXPIRE', list, life)
  return put
end
""" % (VERSION, VERSION, RECENCY_LENGTH, RECENCY_LENGTH + 1)

# Deletes a negative response, unless its request was sent as late. The refusal or the grant that
# outweighs it may be lost before it.
_END_NEGATIVE: Final = (
    b"""
local function end_negative(key, at)
  local version, sent_at = read(redis.pcall('GET', key))
  if sent_at and version <= %d and not as_late(sent_at, at) then redis.call('DEL', key) end
end
"""
    % VERSION
)

#: KEYS: grant, refusal, recency list, representation, unstorable, and the negative response, if
#: such are stored. ARGV: grant, its life in ms; digest, its entry, the list's life; the
#: representation (empty: it should be stored), its life; by how many seconds the entry must be
#: later than the listed one (0: it is not a renewal). Returns whether the representation is stored.
CONFIRM: Final = Script(
    _READ
    + _PUT_GRANT
    + _PUT_ENTRY
    + _END_NEGATIVE
    + b"""
put_grant(KEYS[1], KEYS[2], ARGV[1], ARGV[2])
if KEYS[6] then
  local _, at = read(ARGV[1])
  end_negative(KEYS[6], at)
end
put_entry(KEYS[3], ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[8]))
local there = 1
if ARGV[6] == '' then
  there = redis.call('PEXPIRE', KEYS[4], ARGV[7])
else
  if redis.call('TYPE', KEYS[4]).ok == 'string' and newer(redis.call('GETRANGE', KEYS[4], 0, 19))
  then redis.call('PEXPIRE', KEYS[4], ARGV[7])
  else redis.call('SET', KEYS[4], ARGV[6], 'PX', ARGV[7]) end
  redis.call('DEL', KEYS[5])
end
return there
"""
)

#: KEYS: grant, refusal. ARGV: grant, its life in ms. Returns whether it was stored.
PUT_GRANT: Final = Script(
    _READ + _PUT_GRANT + b"return put_grant(KEYS[1], KEYS[2], ARGV[1], ARGV[2])"
)

#: KEYS: recency list. ARGV: digest, its entry, the list's life in ms. Returns whether the entry was
#: stored.
PUT_ENTRY: Final = Script(
    _READ + _PUT_ENTRY + b"return put_entry(KEYS[1], ARGV[1], ARGV[2], ARGV[3], 0)"
)

#: KEYS: a refusal, the grant that it outweighs if it is later, and the negative response, if such
#: are stored. ARGV: the refusal, its life. Returns whether it was stored.
DENY: Final = Script(
    _READ
    + _END_NEGATIVE
    + b"""
local _, at = read(ARGV[1])
local old = redis.pcall('GET', KEYS[1])
local _, known = read(old)
local put = 0
if not newer(old) and not as_late(known, at) then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  put = 1
end
local grant = redis.pcall('GET', KEYS[2])
local _, requested_at = read(grant)
if requested_at and not newer(grant) and (requested_at <= at or not as_late(requested_at, at))
then redis.call('DEL', KEYS[2]) end
if KEYS[3] then end_negative(KEYS[3], at) end
return put
"""
)

#: KEYS: a negative response, a refusal, a grant. ARGV: the response, its life in ms. It is not
#: stored where one of these is of a later request. Returns whether it was stored.
PUT_NEGATIVE: Final = Script(
    _READ
    + b"""
local _, at = read(ARGV[1])
local old = redis.pcall('GET', KEYS[1])
local _, known = read(old)
local function is_later(key)
  local _, stored = read(redis.pcall('GET', key))
  return as_late(stored, at) and stored > at
end
if newer(old) or as_late(known, at) or is_later(KEYS[2]) or is_later(KEYS[3]) then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
)

#: KEYS: an epoch. ARGV: the epoch behind its history, its life in ms, when it is stored (see
#: `EpochWrite`), its history. An epoch of another history permits nothing, and counts as absent
#: where one begins. An epoch that replaces another one lives no longer than that one. Returns the
#: epoch that is stored then, or false.
PUT_EPOCH: Final = Script(
    b"""
local known = redis.pcall('GET', KEYS[1])
if type(known) ~= 'string' then known = false end
local same = known and string.sub(known, 1, #ARGV[4]) == ARGV[4]
if (same and ARGV[3] == 'nothing') or (not known and ARGV[3] == 'another') then return known end
local life = tonumber(ARGV[2])
local left = redis.call('PTTL', KEYS[1])
if ARGV[3] == 'another' and left > 0 and left < life then life = left end
redis.call('SET', KEYS[1], ARGV[1], 'PX', life)
return ARGV[1]
"""
)

#: KEYS: a limit. ARGV: the limit, how long it lasts in ms. A stored limit that lasts longer is not
#: replaced: by both its time to live and its end, since the clocks of replicas may differ. Returns
#: whether the limit was stored.
SET_LIMIT: Final = Script(
    _READ
    + b"""
local old = redis.pcall('GET', KEYS[1])
local _, ends = read(old)
local _, at = read(ARGV[1])
local lasts = redis.call('PTTL', KEYS[1]) >= tonumber(ARGV[2])
if newer(old) or (ends and ends >= at and lasts) then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
)

# Whether a command is carried out after the time in ms, by the server's clock, at which its caller
# has stopped waiting for it; 0: that time is not known. A server that was paused carries out the
# commands that it has received before.
_IS_LATE: Final = b"""
local function is_late(deadline)
  if deadline == '0' then return false end
  local clock = redis.call('TIME')
  return clock[1] * 1000 + math.floor(clock[2] / 1000) > tonumber(deadline)
end
"""

#: KEYS: lock, unstorable, a record that exists if the key is known. ARGV: owner, lease in ms,
#: deadline in ms. Returns a `LockOutcome`, or ``late``.
ACQUIRE: Final = Script(
    _IS_LATE
    + b"""
if is_late(ARGV[3]) then return 'late' end
if redis.call('EXISTS', KEYS[2], KEYS[3]) > 0 then return 'known' end
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return 'go' end
if redis.call('GET', KEYS[1]) == ARGV[1] then return 'go' end
return 'wait'
"""
)

#: KEYS: lock, unstorable. ARGV: owner, lease in ms, deadline in ms. A lock that was evicted is
#: acquired again.
RENEW: Final = Script(
    _IS_LATE
    + b"""
if is_late(ARGV[3]) then return 0 end
local owner = redis.call('GET', KEYS[1])
if owner == ARGV[1] or (not owner and redis.call('EXISTS', KEYS[2]) == 0)
then redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) end
return 1
"""
)

#: KEYS: lock, unstorable. ARGV: owner.
RELEASE: Final = Script(
    b"""
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 1
"""
)

#: KEYS: lease. ARGV: owner, lease in ms. Returns whether *owner* holds it then.
ACQUIRE_LEASE: Final = Script(
    b"""
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
)

#: KEYS: the history (see `loss_detection`). ARGV: a new history; whether to read the server's run
#: id; the history that the caller has seen, and its number of beats; the life of a history in ms;
#: the caller; whether it owes writes; a time in ms by this server's clock, or 0; how many ms a
#: member counts after its beat; the history to store where there is none, or nothing; the run id of
#: the caller's last beat, or nothing. Returns the history, its number of beats, the time in ms, the
#: number of members, of other members that owe writes, and of members with a beat since that time,
#: and the run id, or false without the permission for INFO.
#:
#: The script itself reads the run id: one that the caller sends may be that of a former primary.
BEAT: Final = Script(
    b"""
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local run, may_read = '', true
if ARGV[2] == '1' then
  local info = redis.pcall('INFO', 'server')
  may_read = type(info) == 'string'
  run = may_read and string.match(info, 'run_id:(%x+)') or ''
end
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then redis.call('DEL', KEYS[1]) end
local known = redis.call('HMGET', KEYS[1], 'history', 'count', 'run')
local history, count = known[1], tonumber(known[2] or 0)
if not history then
  -- Others may have seen more beats than the caller, which is not a sign of an earlier copy then.
  history, count = ARGV[1], tonumber(ARGV[4]) + 100000
  if ARGV[10] ~= '' and run == ARGV[11] then history = ARGV[10] end
elseif not count or known[3] ~= run or (ARGV[11] ~= '' and ARGV[11] ~= run)
  or (history == ARGV[3] and count < tonumber(ARGV[4])) then
  history, count = ARGV[1], 0
end
count = count + 1
local me = 'member ' .. ARGV[6]
redis.call('HSET', KEYS[1], 'history', history, 'count', count, 'run', run,
  me, string.format('%.0f %s', now, ARGV[7]))
redis.call('PEXPIRE', KEYS[1], ARGV[5])
local members, owing, back = 0, 0, 0
local rows = redis.call('HGETALL', KEYS[1])
for i = 1, #rows, 2 do
  if string.sub(rows[i], 1, 7) == 'member ' then
    local at, owes = string.match(rows[i + 1], '^(%d+) (%d)$')
    at = tonumber(at)
    if not at or at < now - tonumber(ARGV[9]) then redis.call('HDEL', KEYS[1], rows[i])
    else
      members = members + 1
      if owes == '1' and rows[i] ~= me then owing = owing + 1 end
      if at >= tonumber(ARGV[8]) then back = back + 1 end
    end
  end
end
return {history, count, string.format('%.0f', now), members, owing, back, may_read and run}
"""
)
