//! The facts in Redis: a script for each command that reads before it writes, so that it happens at once or not at all.
//!
//! All keys have one hash tag: on Redis Cluster they are on one shard. Time is the server's.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{FromRedisValue, RedisError, Script};

use super::{Alive, Answer, Claim, Command, EdgeId, Held, HotError, KeptCall, Raised, SLOTS, Written, versioned};
use crate::ids::CallSid;

/// A server that does not answer within this time is away: who asked goes on without it.
const PATIENCE: Duration = Duration::from_millis(1000);

const UNTIL: &str = "{dialtone}:edges:until";
const ABOUT: &str = "{dialtone}:edges:about";
const OWNERS: &str = "{dialtone}:slots";
const CLAIMS: &str = "{dialtone}:claims";
/// Until when edges tell a store that is new, or has forgotten everything, what they hold.
const BARRIER: &str = "{dialtone}:barrier";

/// Milliseconds since 1970, by the server's clock.
const NOW: &str = "local t = redis.call('TIME'); local now = t[1] * 1000 + math.floor(t[2] / 1000)\n";

const BEAT: &str = "
local known = redis.call('ZSCORE', KEYS[1], ARGV[1])
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
redis.call('SETNX', KEYS[4], now + ARGV[4])
for _, edge in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now - 604800000)) do
  redis.call('ZREM', KEYS[1], edge); redis.call('HDEL', KEYS[2], edge) end
local edges, fresh = {}, {}
for i = 5, #ARGV do
  if not known and redis.call('HSETNX', KEYS[3], ARGV[i], ARGV[1]) == 1 then fresh[#fresh + 1] = ARGV[i] end end
for _, edge in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now, '+inf')) do
  edges[#edges + 1] = edge; edges[#edges + 1] = redis.call('HGET', KEYS[2], edge) end
return {edges, redis.call('HGETALL', KEYS[3]), fresh}";

const TAKE_FREE: &str = "
for slot = 0, ARGV[2] - 1 do
  if redis.call('HSETNX', KEYS[1], slot, ARGV[1]) == 1 then return slot end end
return -1";

const ADOPT: &str = "
local till = redis.call('ZSCORE', KEYS[1], ARGV[3])
if till and tonumber(till) > now then return false end
if redis.call('HGET', KEYS[2], ARGV[2]) ~= ARGV[3] then return false end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[1])
local theirs, ours = '{dialtone}:holds:' .. ARGV[3], '{dialtone}:holds:' .. ARGV[1]
for _, scope in ipairs(redis.call('SMEMBERS', theirs)) do
  local holders = redis.call('HGETALL', scope)
  for i = 1, #holders, 2 do
    local edge, of = string.match(holders[i], '^([^|]+)|?(.*)$')
    if edge == ARGV[3] then
      redis.call('HDEL', scope, holders[i])
      redis.call('HINCRBY', scope, ARGV[1] .. '|' .. (of == '' and edge or of), holders[i + 1])
      redis.call('SADD', ours, scope) end end end
redis.call('DEL', theirs)
return {redis.call('HGETALL', KEYS[3]), redis.call('HGETALL', KEYS[4])}";

const FREE: &str = "
if redis.call('HGET', KEYS[1], ARGV[2]) == ARGV[1] then
  redis.call('HDEL', KEYS[1], ARGV[2]); redis.call('DEL', KEYS[2], KEYS[3]) end";

const WRITE: &str = "
local owner = redis.call('HGET', KEYS[1], ARGV[2])
if owner ~= ARGV[1] then return owner and 0 or -1 end
redis.call('HSET', KEYS[2], ARGV[3], (redis.call('HGET', KEYS[2], ARGV[3]) or '') .. ARGV[4])
if ARGV[5] then redis.call('HSET', KEYS[3], ARGV[3], ARGV[5]) end
return 1";

const DROP: &str = "
local owner = redis.call('HGET', KEYS[1], ARGV[2])
if owner ~= ARGV[1] then return owner and 0 or -1 end
redis.call('HDEL', KEYS[2], ARGV[3]); redis.call('HDEL', KEYS[3], ARGV[3])
return 1";

const CLAIM: &str = "
local kept = redis.call('HGET', KEYS[2], ARGV[2])
if kept then
  local till = redis.call('ZSCORE', KEYS[1], string.match(kept, '^(.-) '))
  if till and tonumber(till) > now then return kept end end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[1] .. ' ' .. ARGV[3])
return ARGV[1] .. ' ' .. ARGV[3]";

const UNCLAIM: &str = "
if redis.call('HGET', KEYS[1], ARGV[2]) == ARGV[1] .. ' ' .. ARGV[3] then redis.call('HDEL', KEYS[1], ARGV[2]) end";

const REMOVE: &str = "
if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then redis.call('HDEL', KEYS[1], ARGV[1]) end";

const SWAP: &str = "
local kept = redis.call('HGET', KEYS[1], ARGV[1])
if (kept and string.match(kept, '^%d+') or '0') ~= ARGV[2] then return kept or '' end
if ARGV[4] == '' then redis.call('HDEL', KEYS[1], ARGV[1])
else redis.call('HSET', KEYS[1], ARGV[1], ARGV[3] .. ' ' .. ARGV[4]) end
return false";

/// A hash for each scope, by holder, and a set for each edge of the scopes that it holds something of. The arguments are the
/// edge, then each list of the claim behind its length.
const HOLD: &str = "
local at = 1
local function arg() at = at + 1; return ARGV[at] end
local edge, own = ARGV[1], '{dialtone}:holds:' .. ARGV[1]
local till = redis.call('ZSCORE', KEYS[1], edge)
if not till or tonumber(till) <= now then return {-1} end
local function forget_if_empty(scope)
  for _, holder in ipairs(redis.call('HKEYS', scope)) do
    if string.match(holder, '^[^|]+') == edge then return end end
  redis.call('SREM', own, scope) end
for i = 1, tonumber(arg()) do
  local count, scope = tonumber(arg()), KEYS[3 + i]
  if count > 0 then redis.call('HSET', scope, edge, count); redis.call('SADD', own, scope)
  elseif redis.call('HDEL', scope, edge) == 1 then forget_if_empty(scope) end end
for i = 1, tonumber(arg()) do
  local of = arg()
  for _, scope in ipairs(redis.call('SMEMBERS', own)) do
    if redis.call('HDEL', scope, edge .. '|' .. of) == 1 then forget_if_empty(scope) end end end
local barrier = tonumber(redis.call('GET', KEYS[3]) or now + 1)
if barrier > now then return {-2, barrier - now} end
local owners
local function keeps(edge)
  local till = redis.call('ZSCORE', KEYS[1], edge)
  if till and tonumber(till) > now then return true end
  if not owners then
    owners = {}
    for _, owner in ipairs(redis.call('HVALS', KEYS[2])) do owners[owner] = true end end
  return owners[edge] end
local used = {}
for i = 4, #KEYS do
  local holders, sum = redis.call('HGETALL', KEYS[i]), 0
  for j = 1, #holders, 2 do
    if keeps(string.match(holders[j], '^[^|]+')) then sum = sum + holders[j + 1]
    else redis.call('HDEL', KEYS[i], holders[j]) end end
  used[i - 3] = sum end
local answer = {1}
for i = 1, tonumber(arg()) do
  local least, by, scopes, full = tonumber(arg()), tonumber(arg()), {}, nil
  for j = 1, tonumber(arg()) do
    local place, limit = tonumber(arg()) + 1, tonumber(arg())
    local room = math.max(limit - used[place], 0)
    if room < least and not full then full = place end
    by = math.min(by, room)
    scopes[j] = place end
  if full then answer[#answer + 1] = -full
  else
    for _, place in ipairs(scopes) do
      used[place] = used[place] + by
      redis.call('HINCRBY', KEYS[3 + place], edge, by); redis.call('SADD', own, KEYS[3 + place]) end
    answer[#answer + 1] = by end end
return answer";

/// A Redis, or a Valkey. Clones share the connection.
#[derive(Clone)]
pub struct Redis {
    connection: ConnectionManager,
}

impl Redis {
    /// Connects; afterwards a connection that is lost is made anew by itself.
    pub async fn open(url: &str) -> Result<Redis, HotError> {
        let client = redis::Client::open(url).map_err(HotError::from)?;
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE))
            .set_number_of_retries(1)
            .set_max_delay(PATIENCE);
        let connection = client.get_connection_manager_with_config(config).await.map_err(HotError::from)?;
        Ok(Redis { connection })
    }

    pub async fn ask(&self, command: Command) -> Result<Answer, HotError> {
        let (op, asked) = (command.name(), Instant::now());
        let answer = self.carry_out(command).await;
        let outcome = if answer.is_ok() { "ok" } else { "error" };
        metrics::counter!("dialtone_store_operations_total", "backend" => "redis", "op" => op, "outcome" => outcome)
            .increment(1);
        metrics::histogram!("dialtone_store_operation_duration_seconds", "backend" => "redis", "op" => op)
            .record(asked.elapsed().as_secs_f64());
        answer
    }

    async fn carry_out(&self, command: Command) -> Result<Answer, HotError> {
        match command {
            Command::Beat { edge, lease_ms, about, slots, barrier_ms } => {
                let script = Script::new(&[NOW, BEAT].concat());
                let mut call = script.key(UNTIL);
                call.key(ABOUT).key(OWNERS).key(BARRIER);
                call.arg(edge.to_string()).arg(lease_ms).arg(about).arg(barrier_ms);
                for slot in &slots {
                    call.arg(*slot);
                }
                let (edges, owners, forgotten): (Pairs<String>, Pairs<u16>, Vec<u16>) = self.run(&call).await?;
                Ok(Answer::Alive(Alive { forgotten, ..alive(&edge, &slots, edges, owners) }))
            }
            Command::Leave { edge } => {
                let mut pipe = redis::pipe();
                pipe.atomic().zrem(UNTIL, edge.to_string()).ignore().hdel(ABOUT, edge.to_string()).ignore();
                pipe.query_async::<()>(&mut self.connection.clone()).await?;
                Ok(Answer::Done)
            }
            Command::TakeFree { edge } => {
                let script = Script::new(TAKE_FREE);
                let slot: i32 = self.run(script.key(OWNERS).arg(edge.to_string()).arg(SLOTS)).await?;
                Ok(Answer::Slot(u16::try_from(slot).ok()))
            }
            Command::Adopt { edge, slot, from } => {
                let script = Script::new(&[NOW, ADOPT].concat());
                let mut call = script.key(UNTIL);
                call.key(OWNERS).key(events_of(slot)).key(states_of(slot));
                call.arg(edge.to_string()).arg(slot).arg(from.to_string());
                type Fields = Vec<(String, Vec<u8>)>;
                let found: Option<(Fields, Fields)> = self.run(&call).await?;
                Ok(Answer::Adopted(found.map(|(events, states)| kept(events, states))))
            }
            Command::Free { edge, slot } => {
                let script = Script::new(FREE);
                let mut call = script.key(OWNERS);
                self.run::<()>(call.key(events_of(slot)).key(states_of(slot)).arg(edge.to_string()).arg(slot)).await?;
                Ok(Answer::Done)
            }
            Command::Write { edge, slot, call: sid, events, state } => {
                let script = Script::new(WRITE);
                let mut call = script.key(OWNERS);
                call.key(events_of(slot)).key(states_of(slot));
                call.arg(edge.to_string()).arg(slot).arg(sid.to_string()).arg(events);
                if let Some(state) = state {
                    call.arg(state);
                }
                self.run(&call).await.map(written)
            }
            Command::Drop { edge, slot, call: sid } => {
                let script = Script::new(DROP);
                let mut call = script.key(OWNERS);
                call.key(events_of(slot)).key(states_of(slot));
                self.run(call.arg(edge.to_string()).arg(slot).arg(sid.to_string())).await.map(written)
            }
            Command::Put { map, field, value } => {
                self.query::<()>(redis::cmd("HSET").arg(map_of(&map)).arg(field).arg(value)).await?;
                Ok(Answer::Done)
            }
            Command::Remove { map, field, value } => {
                let script = Script::new(REMOVE);
                let mut call = script.key(map_of(&map));
                self.run::<()>(call.arg(field).arg(value)).await?;
                Ok(Answer::Done)
            }
            Command::Swap { map, field, seen, version, value } => {
                let script = Script::new(SWAP);
                let mut call = script.key(map_of(&map));
                let kept: Option<Vec<u8>> = self.run(call.arg(field).arg(seen).arg(version).arg(value)).await?;
                Ok(Answer::Swapped(kept.map(|kept| {
                    let (version, value) = versioned(&kept);
                    (version, value.to_vec())
                })))
            }
            Command::All { map } => {
                let mut all: Vec<(String, Vec<u8>)> = self.query(redis::cmd("HGETALL").arg(map_of(&map))).await?;
                all.sort_unstable();
                Ok(Answer::Values(all))
            }
            Command::Claim { edge, name, value } => {
                let script = Script::new(&[NOW, CLAIM].concat());
                let mut call = script.key(UNTIL);
                let kept: String = self.run(call.key(CLAIMS).arg(edge.to_string()).arg(name).arg(value)).await?;
                let claimed = kept.split_once(' ').and_then(|(edge, value)| Some((EdgeId::parse(edge)?, value)));
                let (edge, value) =
                    claimed.ok_or_else(|| HotError(format!("a claim in Redis is unreadable: {kept}")))?;
                Ok(Answer::Claimed { edge, value: value.to_owned() })
            }
            Command::Hold { edge, claim } => self.hold(&edge, &claim).await.map(Answer::Held),
            Command::Holders { scope } => {
                let held: Vec<(String, u32)> = self.query(redis::cmd("HGETALL").arg(holders_of(&scope))).await?;
                let mut holders = BTreeMap::new();
                for (holder, count) in held {
                    let edge = holder.split('|').next().and_then(EdgeId::parse);
                    edge.into_iter().for_each(|edge| *holders.entry(edge).or_default() += count);
                }
                Ok(Answer::Holders(holders.into_iter().collect()))
            }
            Command::Unclaim { edge, name, value } => {
                let script = Script::new(UNCLAIM);
                self.run::<()>(script.key(CLAIMS).arg(edge.to_string()).arg(name).arg(value)).await?;
                Ok(Answer::Done)
            }
        }
    }

    async fn hold(&self, edge: &EdgeId, claim: &Claim) -> Result<Held, HotError> {
        let script = Script::new(&[NOW, HOLD].concat());
        let mut call = script.key(UNTIL);
        call.key(OWNERS).key(BARRIER).arg(edge.to_string()).arg(claim.have.len());
        for (scope, count) in &claim.have {
            call.key(holders_of(scope)).arg(*count);
        }
        call.arg(claim.settled.len());
        for of in &claim.settled {
            call.arg(of.to_string());
        }
        call.arg(claim.raises.len());
        for raise in &claim.raises {
            call.arg(raise.at_least).arg(raise.at_most).arg(raise.scopes.len());
            for (place, limit) in &raise.scopes {
                call.arg(*place).arg(*limit);
            }
        }
        let told: Vec<i64> = self.run(&call).await?;
        let unreadable = || HotError("what Redis says to a claim is unreadable".to_owned());
        match told.split_first().ok_or_else(unreadable)? {
            (-1, _) => Ok(Held::Fenced),
            (-2, [wait_ms, ..]) => Ok(Held::Barrier { wait_ms: wait_ms.unsigned_abs() }),
            (1, raised) => Ok(Held::Done(raised.iter().map(|told| raised_by(*told)).collect())),
            _ => Err(unreadable()),
        }
    }

    #[cfg(test)]
    pub(super) async fn forget_everything(&self) {
        self.query::<()>(&redis::cmd("FLUSHDB")).await.expect("the test's own server");
    }

    async fn run<T: FromRedisValue>(&self, call: &redis::ScriptInvocation<'_>) -> Result<T, HotError> {
        call.invoke_async(&mut self.connection.clone()).await.map_err(HotError::from)
    }

    async fn query<T: FromRedisValue>(&self, command: &redis::Cmd) -> Result<T, HotError> {
        command.query_async(&mut self.connection.clone()).await.map_err(HotError::from)
    }
}

fn written(told: i32) -> Answer {
    Answer::Written(match told {
        1 => Written::Done,
        0 => Written::Fenced,
        _ => Written::Forgotten,
    })
}

/// As the script tells it: by how much, or less than zero which scope is full, counted from one.
fn raised_by(told: i64) -> Raised {
    let number = told.unsigned_abs();
    match told {
        ..0 => Raised::Full(usize::try_from(number - 1).unwrap_or(usize::MAX)),
        _ => Raised::By(u32::try_from(number).unwrap_or(u32::MAX)),
    }
}

/// A hash, by field.
type Pairs<K> = Vec<(K, String)>;

fn alive(edge: &EdgeId, asked: &[u16], edges: Pairs<String>, owners: Pairs<u16>) -> Alive {
    let lives = edges.into_iter().filter_map(|(edge, about)| Some((EdgeId::parse(&edge)?, about)));
    let mut edges: Vec<(EdgeId, String)> = lives.collect();
    edges.sort_unstable();
    let owned = owners.into_iter().filter_map(|(slot, edge)| Some((slot, EdgeId::parse(&edge)?)));
    let mut slots: Vec<(u16, EdgeId)> = owned.collect();
    slots.sort_unstable();
    // Another has it, or has given it back since.
    let is_lost = |slot: &u16| !slots.iter().any(|(number, owner)| number == slot && owner == edge);
    let lost = asked.iter().copied().filter(is_lost).collect();
    Alive { edges, slots, lost, ..Alive::default() }
}

fn kept(events: Vec<(String, Vec<u8>)>, states: Vec<(String, Vec<u8>)>) -> Vec<KeptCall> {
    let mut states: std::collections::HashMap<String, Vec<u8>> = states.into_iter().collect();
    let calls = events.into_iter().filter_map(|(sid, events)| {
        Some(KeptCall { call: sid.parse::<CallSid>().ok()?, events, state: states.remove(&sid) })
    });
    let mut calls: Vec<KeptCall> = calls.collect();
    calls.sort_unstable_by_key(|kept| kept.call);
    calls
}

fn events_of(slot: u16) -> String {
    format!("{{dialtone}}:events:{slot}")
}

fn states_of(slot: u16) -> String {
    format!("{{dialtone}}:states:{slot}")
}

fn holders_of(scope: &str) -> String {
    format!("{{dialtone}}:hold:{scope}")
}

fn map_of(map: &str) -> String {
    format!("{{dialtone}}:map:{map}")
}

impl From<RedisError> for HotError {
    fn from(error: RedisError) -> HotError {
        HotError(error.to_string())
    }
}
