//! The open sessions of every key: a list per key, newest first, in one pool.

use millrace_core::block::Millis;
use millrace_core::function::Slot;

use super::Merges;

/// Number of a session in the pool.
pub(super) type SessionId = u32;

/// No session.
pub(super) const NONE: SessionId = SessionId::MAX;

/// Not in a bucket.
pub(super) const NEVER: Millis = Millis::MIN;

/// Each in a cache line of its own: they are met in no order, and there are more than the caches hold.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
pub(super) struct Session {
    /// Time of the first and of the last row.
    pub(super) first: Millis,
    pub(super) last: Millis,
    pub(super) slot: Slot,
    pub(super) key: Slot,
    /// Neighbours of the same key; for a session merged into another, `newer` is that one.
    newer: SessionId,
    older: SessionId,
    /// The bucket in which it waits to fire, and that in which it waits to expire.
    pub(super) unfired_at: Millis,
    pub(super) expiry_at: Millis,
    /// The guest has an accumulator under `slot`.
    pub(super) in_guest: bool,
    merged: bool,
}

#[derive(Debug, Default)]
pub(super) struct SessionStore {
    sessions: Vec<Session>,
    free: Vec<SessionId>,
    /// By key: its newest session, and its oldest, which is only right where there is one.
    newest: Vec<SessionId>,
    oldest: Vec<SessionId>,
}

/// Sessions looked at from the newest on before the search begins with the oldest: rows of an input that lags behind
/// others are near the watermark, and so near the sessions that close next.
const LOOKED_AT: usize = if cfg!(test) { 1 } else { 4 };

/// Last ms of the session window of one row, or of a session with its last row at this time.
pub(super) fn last_ms(time: Millis, gap: Millis) -> Millis {
    // The end may be past the end of time; gaps are positive, so this cannot underflow.
    time.saturating_add(gap - 1)
}

impl SessionStore {
    /// Makes room for keys below this number.
    pub(super) fn reserve_keys(&mut self, bound: Slot) {
        if self.newest.len() < bound as usize {
            self.newest.resize((bound as usize).next_power_of_two(), NONE);
            self.oldest.resize(self.newest.len(), NONE);
        }
    }

    /// Brings the newest sessions of some keys into the cache, all at once.
    pub(super) fn touch(&self, keys: &[Slot]) {
        let mut sum = 0;
        for &key in keys {
            if let Some(session) = self.sessions.get(self.newest[key as usize] as usize) {
                sum ^= session.last;
            }
        }
        std::hint::black_box(sum);
    }

    /// Brings sessions into the cache, all at once.
    pub(super) fn warm(&self, ids: &[SessionId]) {
        let touched = ids.iter().fold(0, |sum, &id| sum ^ self.session(id).last);
        std::hint::black_box(touched);
    }

    #[inline]
    pub(super) fn session(&self, id: SessionId) -> &Session {
        &self.sessions[id as usize]
    }

    #[inline]
    pub(super) fn session_mut(&mut self, id: SessionId) -> &mut Session {
        &mut self.sessions[id as usize]
    }

    /// Last ms of a session's window.
    pub(super) fn last_ms(&self, id: SessionId, gap: Millis) -> Millis {
        last_ms(self.session(id).last, gap)
    }

    /// Number of sessions.
    pub(super) fn len(&self) -> usize {
        self.sessions.len() - self.free.len()
    }

    pub(super) fn has_sessions(&self, key: Slot) -> bool {
        self.newest[key as usize] != NONE
    }

    /// The sessions of a key, newest first.
    pub(super) fn sessions_of(&self, key: Slot) -> Vec<SessionId> {
        let mut sessions = Vec::new();
        let mut at = self.newest[key as usize];
        while at != NONE {
            sessions.push(at);
            at = self.session(at).older;
        }
        sessions
    }

    /// The newest session of a key that a row joins; else the session before which one for it belongs in
    /// the list (`NONE`: at its head).
    #[inline]
    pub(super) fn find(&self, key: Slot, time: Millis, gap: Millis) -> Result<SessionId, SessionId> {
        let (mut newer, mut at) = (NONE, self.newest[key as usize]);
        for _ in 0..LOOKED_AT {
            if at == NONE {
                return Err(newer);
            }
            let session = self.session(at);
            if time > session.last.saturating_add(gap) {
                return Err(newer);
            }
            if time >= session.first.saturating_sub(gap) {
                return Ok(at);
            }
            (newer, at) = (at, session.older);
        }
        match at {
            NONE => Err(newer),
            _ => self.find_from_oldest(key, time, gap),
        }
    }

    /// The same for a row that is not past all sessions of its key.
    #[cold]
    fn find_from_oldest(&self, key: Slot, time: Millis, gap: Millis) -> Result<SessionId, SessionId> {
        let mut at = self.oldest[key as usize];
        while at != NONE {
            let session = self.session(at);
            if time > session.last.saturating_add(gap) {
                at = session.newer;
                continue;
            }
            let joins = |id: SessionId| id != NONE && time >= self.session(id).first.saturating_sub(gap);
            return match joins(at) {
                // It may make one session of two.
                true if joins(session.newer) => Ok(session.newer),
                true => Ok(at),
                false => Err(at),
            };
        }
        Err(NONE)
    }

    /// Opens a session of one row, in the list after `newer`.
    pub(super) fn open(&mut self, key: Slot, newer: SessionId, time: Millis, slot: Slot) -> SessionId {
        let older = match newer {
            NONE => self.newest[key as usize],
            newer => self.session(newer).older,
        };
        let session = Session {
            first: time,
            last: time,
            slot,
            key,
            newer,
            older,
            unfired_at: NEVER,
            expiry_at: NEVER,
            in_guest: false,
            merged: false,
        };
        let id = match self.free.pop() {
            Some(id) => {
                self.sessions[id as usize] = session;
                id
            }
            None => {
                self.sessions.push(session);
                self.sessions.len() as SessionId - 1
            }
        };
        self.link(key, newer, id);
        self.link_back(key, older, id);
        id
    }

    /// Adds a row to a session that it joins, and merges that with the one before if they touch now.
    #[inline]
    pub(super) fn extend(&mut self, id: SessionId, time: Millis, gap: Millis, merges: &mut Merges) {
        let older = self.joined_by(id, time, gap);
        let session = self.session_mut(id);
        session.last = session.last.max(time);
        session.first = session.first.min(time);
        if let Some(older) = older {
            self.merge(id, older, merges);
        }
    }

    /// The older neighbour of a session that a row of the session will make one with it.
    #[inline]
    pub(super) fn joined_by(&self, id: SessionId, time: Millis, gap: Millis) -> Option<SessionId> {
        let &Session { first, older, .. } = self.session(id);
        let touches = time < first && older != NONE && self.session(older).last.saturating_add(gap) >= time;
        touches.then_some(older)
    }

    /// Makes one session of two neighbours; the newer stays. The accumulator of the older stays, and gets
    /// that of the newer, where the guest has both: rows stay in the order of time.
    fn merge(&mut self, id: SessionId, older: SessionId, merges: &mut Merges) {
        let gone = *self.session(older);
        let session = self.session_mut(id);
        session.first = gone.first;
        session.older = gone.older;
        if gone.in_guest {
            let slot = std::mem::replace(&mut session.slot, gone.slot);
            if session.in_guest {
                merges.targets.push(gone.slot);
                merges.sources.push(slot);
            } else {
                merges.unused.push(slot);
            }
            session.in_guest = true;
        } else {
            merges.unused.push(gone.slot);
        }
        self.link_back(gone.key, gone.older, id);
        let gone = self.session_mut(older);
        gone.merged = true;
        gone.newer = id;
        gone.unfired_at = NEVER;
        gone.expiry_at = NEVER;
        merges.gone.push(older);
    }

    /// The session that a session of this block is part of now.
    pub(super) fn survivor(&self, mut id: SessionId) -> SessionId {
        while self.session(id).merged {
            id = self.session(id).newer;
        }
        id
    }

    /// Gives back sessions that were merged into others, once nobody asks for survivors any more.
    pub(super) fn free(&mut self, gone: &mut Vec<SessionId>) {
        self.free.append(gone);
    }

    /// Takes a session off its key's list and returns the key.
    pub(super) fn close(&mut self, id: SessionId) -> Slot {
        let Session { key, newer, older, .. } = *self.session(id);
        self.link(key, newer, older);
        self.link_back(key, older, newer);
        let session = self.session_mut(id);
        session.unfired_at = NEVER;
        session.expiry_at = NEVER;
        self.free.push(id);
        key
    }

    /// Makes `id` what follows `newer` in the key's list.
    fn link(&mut self, key: Slot, newer: SessionId, id: SessionId) {
        match newer {
            NONE => self.newest[key as usize] = id,
            newer => self.session_mut(newer).older = id,
        }
    }

    /// Makes `id` what precedes `older` in the key's list.
    fn link_back(&mut self, key: Slot, older: SessionId, id: SessionId) {
        match older {
            NONE => self.oldest[key as usize] = id,
            older => self.session_mut(older).newer = id,
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let ids = self.free.capacity() + self.newest.capacity() + self.oldest.capacity();
        self.sessions.capacity() * size_of::<Session>() + ids * size_of::<SessionId>()
    }
}
