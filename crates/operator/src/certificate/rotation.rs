//! The life of the certificates, as a pure machine: what is held and known at a time gives the one next step.
//!
//! ```text
//!            Found                      Announce              Switch                Retire
//!   nothing ───────▶ authority A ──────────────▶ A, next B ─────────▶ B, old A ───────────▶ B
//!                    serving by A                serving by A         serving by B          serving by B
//!                      └─▶ Issue: serving anew, by the same authority
//! ```
//!
//! Between any two of these every API server has to know all authorities that are held (`Publish`), which is written
//! down (`Confirm`), and a while has to pass until the last one has read it. So at no time anybody is shown a
//! certificate that it cannot trust yet, or no longer.

use std::collections::BTreeSet;

use super::{Error, Facts, Pair, Time};

/// What the Secret holds.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Held {
    /// The authority that signs.
    pub authority: Option<Pair>,
    /// The authority that will sign when it is known everywhere.
    pub next: Option<Pair>,
    /// The authority that signed what some replica may still show. Its key is thrown away.
    pub old: Option<Pair>,
    /// The serving certificate.
    pub serving: Option<Pair>,
    /// Since when every API server's configuration has known all authorities.
    pub since: Option<Time>,
}

/// How long things last, in seconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lifetimes {
    /// An authority.
    pub authority: u64,
    /// A serving certificate.
    pub serving: u64,
    /// Until the last API server has read a changed configuration, and the last replica a changed Secret.
    pub settle: u64,
}

impl Lifetimes {
    /// All from the life of a serving certificate.
    #[must_use]
    pub const fn of(serving: u64) -> Self {
        let settle = serving / 10;
        Self { serving, authority: serving.saturating_mul(4), settle: if settle > 300 { 300 } else { settle } }
    }

    /// How often a replica looks. Several times before anything that settles has settled.
    #[must_use]
    pub const fn interval(self) -> u64 {
        let interval = self.settle / 5;
        if interval < 1 { 1 } else { interval }
    }
}

/// The next step. Each is one write, or none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// An authority and a serving certificate where nothing usable is.
    Found,
    /// A serving certificate by the authority that signs.
    Issue,
    /// A second authority, which does not sign yet.
    Announce,
    /// All authorities into the configurations of the API servers.
    Publish,
    /// Write down that they are there, as of now.
    Confirm,
    /// The second authority signs; a serving certificate by it.
    Switch,
    /// Forget the authority that signed before.
    Retire,
    /// Nothing, until this time.
    Wait(Time),
}

/// The next step from what is held, whether every configuration knows exactly that, and the names wanted.
#[must_use]
pub fn next(held: &Held, known: bool, names: &[String], lives: Lifetimes, now: Time) -> Action {
    let usable = |pair: &Option<Pair>| pair.as_ref().is_some_and(|pair| pair.facts.valid(now) && !pair.key.is_empty());
    if !usable(&held.authority) {
        return if usable(&held.next) { Action::Switch } else { Action::Found };
    }
    let (Some(authority), Some(serving)) = (&held.authority, &held.serving) else { return Action::Issue };
    if !usable(&held.serving) || serving.facts.issuer != authority.facts.id {
        return Action::Issue;
    }
    if !known {
        return Action::Publish;
    }
    let Some(since) = held.since else { return Action::Confirm };
    // A clock that was ahead when it was written down must not hold it up.
    let settled = since.min(now) + lives.settle;
    let waiting = settled > now || since > now + lives.settle;
    // One that ends with its authority cannot be made to last longer: it is the authority that is due.
    let with_authority = serving.facts.until >= authority.facts.until;
    let last = with_authority && serving.facts.due() <= now;
    match (&held.old, &held.next) {
        (Some(_), _) | (_, Some(_)) if waiting => Action::Wait(settled.max(now + 1)),
        (Some(_), _) => Action::Retire,
        (None, Some(_)) => Action::Switch,
        (None, None) if last || authority.facts.due() <= now => Action::Announce,
        (None, None) if serving.facts.due() <= now || lacks(&serving.facts, names) => Action::Issue,
        (None, None) => Action::Wait(authority.facts.due().min(serving.facts.due())),
    }
}

fn lacks(facts: &Facts, names: &[String]) -> bool {
    names.iter().any(|name| !facts.names.contains(name))
}

/// Makes certificates: for real, or for a test.
pub trait Mint {
    /// An authority that is valid now and for `life` seconds.
    ///
    /// # Errors
    /// No randomness.
    fn authority(&mut self, now: Time, life: u64) -> Result<Pair, Error>;

    /// A serving certificate for `names` by an authority, valid now and until a time.
    ///
    /// # Errors
    /// A name that is none; an authority that cannot be read.
    fn serving(&mut self, authority: &Pair, names: &[String], now: Time, until: Time) -> Result<Pair, Error>;
}

/// What is held after a step that changes it.
///
/// # Errors
/// What the mint says.
pub fn change(
    held: &Held,
    action: Action,
    names: &[String],
    lives: Lifetimes,
    now: Time,
    mint: &mut dyn Mint,
) -> Result<Held, Error> {
    // Replicas that want different names, as in the midst of an upgrade, agree on all of them.
    let all: Vec<String> = held
        .serving
        .iter()
        .flat_map(|serving| &serving.facts.names)
        .chain(names)
        .cloned()
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    let serving = |authority: &Pair, mint: &mut dyn Mint| {
        mint.serving(authority, &all, now, authority.facts.until.min(now + lives.serving))
    };
    let mut changed = Held { since: None, ..held.clone() };
    match action {
        Action::Found => {
            let authority = mint.authority(now, lives.authority)?;
            changed.serving = Some(serving(&authority, mint)?);
            changed = Held { authority: Some(authority), next: None, old: None, ..changed };
        }
        Action::Issue => {
            // What is known of the authorities stays so.
            changed.since = held.since;
            if let Some(authority) = &held.authority {
                changed.serving = Some(serving(authority, mint)?);
            }
        }
        Action::Announce => changed.next = Some(mint.authority(now, lives.authority)?),
        Action::Switch => {
            if let Some(next) = changed.next.take() {
                changed.serving = Some(serving(&next, mint)?);
                changed.old = changed.authority.replace(next).map(|old| Pair { key: String::new(), ..old });
            }
        }
        Action::Retire => changed.old = None,
        Action::Confirm => changed.since = Some(now),
        Action::Publish | Action::Wait(_) => changed.since = held.since,
    }
    Ok(changed)
}

impl Held {
    /// All authorities, as PEM: what the API servers have to know.
    #[must_use]
    pub fn bundle(&self) -> String {
        let all = [&self.authority, &self.next, &self.old];
        all.into_iter().flatten().map(|pair| format!("{}\n", pair.certificate.trim_end())).collect()
    }
}

/// Whether two bundles hold the same certificates, in any order.
#[must_use]
pub fn same_bundle(one: &str, other: &str) -> bool {
    let blocks = |text: &str| -> BTreeSet<String> {
        text.split_inclusive("-----END CERTIFICATE-----")
            .map(|block| block.trim().replace("\r\n", "\n"))
            .filter(|block| !block.is_empty())
            .collect()
    };
    blocks(one) == blocks(other)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Certificates by number.
    #[derive(Default)]
    struct Counter(u64);

    impl Counter {
        fn pair(&mut self, issuer: Option<&Pair>, names: &[String], now: Time, until: Time) -> Pair {
            self.0 += 1;
            let id = format!("ca-{}", self.0);
            let issuer = issuer.map_or_else(|| id.clone(), |issuer| issuer.facts.id.clone());
            let facts = Facts { id: id.clone(), issuer, from: now.saturating_sub(3600), until, names: names.to_vec() };
            Pair { certificate: format!("{id} -----END CERTIFICATE-----"), key: "key".to_owned(), facts }
        }
    }

    impl Mint for Counter {
        fn authority(&mut self, now: Time, life: u64) -> Result<Pair, Error> {
            Ok(self.pair(None, &[], now, now + life))
        }

        fn serving(&mut self, authority: &Pair, names: &[String], now: Time, until: Time) -> Result<Pair, Error> {
            Ok(self.pair(Some(authority), names, now, until))
        }
    }

    const LIVES: Lifetimes = Lifetimes { authority: 40_000, serving: 10_000, settle: 500 };

    fn names() -> Vec<String> {
        vec!["webhook.svc".to_owned()]
    }

    /// Steps until there is nothing to do, as one replica alone would do them without any delay.
    fn settle(held: &mut Held, bundle: &mut String, mint: &mut Counter, now: Time) -> Vec<Action> {
        let mut done = Vec::new();
        for _ in 0..10 {
            let action = next(held, same_bundle(bundle, &held.bundle()), &names(), LIVES, now);
            done.push(action);
            match action {
                Action::Wait(until) => {
                    assert!(until > now, "it would spin");
                    return done;
                }
                Action::Publish => *bundle = held.bundle(),
                action => *held = change(held, action, &names(), LIVES, now, mint).unwrap(),
            }
        }
        panic!("no end: {done:?}");
    }

    #[test]
    fn a_life_from_nothing_to_a_second_authority() {
        let (mut held, mut bundle, mut mint) = (Held::default(), String::new(), Counter::default());
        let mut at = |now: Time| settle(&mut held, &mut bundle, &mut mint, now);
        assert_eq!(at(100_000), [Action::Found, Action::Publish, Action::Confirm, Action::Wait(105_467)]);
        assert_eq!(at(106_000)[0], Action::Issue);
        assert_eq!(at(112_000)[..1], [Action::Issue]);
        assert_eq!(at(119_000)[..1], [Action::Issue]);
        // The authority is old before its last serving certificate is.
        assert_eq!(at(126_000)[0], Action::Announce);
        assert_eq!(at(126_200), [Action::Wait(126_500)]);
        assert_eq!(at(126_500), [Action::Switch, Action::Confirm, Action::Wait(127_000)]);
        assert_eq!(at(127_000)[..3], [Action::Retire, Action::Publish, Action::Confirm]);
    }

    #[test]
    fn an_expired_certificate_is_replaced_at_once() {
        let (mut held, mut bundle, mut mint) = (Held::default(), String::new(), Counter::default());
        settle(&mut held, &mut bundle, &mut mint, 100_000);
        let late = settle(&mut held, &mut bundle, &mut mint, 111_000);
        assert_eq!(late[0], Action::Issue, "the operator was down while it ended");
        let later = settle(&mut held, &mut bundle, &mut mint, 1_000_000);
        assert_eq!(later[..3], [Action::Found, Action::Publish, Action::Confirm]);
        // A clock that is far back: nothing of what is there is valid yet.
        assert_eq!(settle(&mut held, &mut bundle, &mut mint, 500_000)[0], Action::Found);
    }

    /// An authority of an older, shorter setting: its last certificate was made anew in every round until its end.
    #[test]
    fn a_certificate_that_ends_with_its_authority_asks_for_the_next_one() {
        let (mut bundle, mut mint) = (String::new(), Counter::default());
        let mut authority = mint.pair(None, &names(), 71_844, 72_452);
        authority.key = "key".to_owned();
        let mut held = Held { authority: Some(authority), ..Held::default() };
        let mut at = |now: Time| settle(&mut held, &mut bundle, &mut mint, now);
        assert_eq!(at(69_652)[0], Action::Issue);
        assert_eq!(at(70_652)[0], Action::Announce);
        assert_eq!(at(71_152)[0], Action::Switch);
    }

    #[test]
    fn a_new_name_comes_beside_the_old_ones() {
        let (mut held, mut bundle, mut mint) = (Held::default(), String::new(), Counter::default());
        settle(&mut held, &mut bundle, &mut mint, 100_000);
        let more = ["other.svc".to_owned()];
        assert_eq!(next(&held, true, &more, LIVES, 100_001), Action::Issue);
        let held = change(&held, Action::Issue, &more, LIVES, 100_001, &mut mint).unwrap();
        assert_eq!(held.serving.unwrap().facts.names, ["other.svc", "webhook.svc"]);
    }

    /// A replica: what it read last, and how wrong its clock is.
    #[derive(Clone, Debug, Default)]
    struct Replica {
        skew: i64,
        shows: Option<Pair>,
    }

    /// Something that happens.
    #[derive(Clone, Debug)]
    enum Event {
        /// A replica goes a round; `crash` at its only write, before it or right after.
        Round { replica: usize, crash: Option<bool> },
        /// A replica reads, another one goes a round, and the first writes by what it had read.
        Race { first: usize, second: usize },
        /// Time goes by.
        Pass(u64),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            6 => (0..3_usize, proptest::option::weighted(0.2, any::<bool>())).prop_map(|(replica, crash)| Event::Round { replica, crash }),
            2 => (0..3_usize, 0..3_usize).prop_map(|(first, second)| Event::Race { first, second }),
            4 => (1..90_u64).prop_map(Event::Pass),
        ]
    }

    struct World {
        now: Time,
        held: Held,
        version: u64,
        /// What the configuration says, and what each API server made of it: up to 100 s late.
        bundle: String,
        seen: Vec<(Time, String)>,
        replicas: Vec<Replica>,
        mint: Counter,
        last_round: Time,
    }

    impl World {
        fn clock(&self, replica: usize) -> Time {
            self.now.saturating_add_signed(self.replicas[replica].skew)
        }

        fn read(&mut self, replica: usize) -> (Held, u64, bool) {
            self.replicas[replica].shows.clone_from(&self.held.serving);
            self.last_round = self.now;
            (self.held.clone(), self.version, same_bundle(&self.bundle, &self.held.bundle()))
        }

        fn act(&mut self, replica: usize, (held, version, known): (Held, u64, bool), crash: Option<bool>) {
            let now = self.clock(replica);
            let action = next(&held, known, &names(), LIVES, now);
            if crash == Some(false) {
                return;
            }
            match action {
                Action::Wait(_) => {}
                Action::Publish => {
                    // The patch tests the configuration's version; what it writes is what was read of the Secret.
                    if version == self.version {
                        self.bundle = held.bundle();
                        self.seen.push((self.now, self.bundle.clone()));
                    }
                }
                action => {
                    let changed = change(&held, action, &names(), LIVES, now, &mut self.mint).unwrap();
                    if version == self.version {
                        self.held = changed;
                        self.version += 1;
                        if crash.is_none() {
                            self.replicas[replica].shows.clone_from(&self.held.serving);
                        }
                    }
                }
            }
        }

        /// The bundles that an API server may go by: anything that was written within the last 100 s, and the one before.
        fn believed(&self) -> Vec<&str> {
            let late: Vec<_> =
                self.seen.iter().filter(|(at, _)| *at + 100 >= self.now).map(|(_, b)| b.as_str()).collect();
            let before = self.seen.iter().rev().find(|(at, _)| *at + 100 < self.now).map(|(_, b)| b.as_str());
            before.into_iter().chain(late).collect()
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

        /// Three replicas with clocks minutes apart, crashes at every write, races, API servers that are 100 s behind:
        /// once the first certificate is known, every replica shows one that every API server trusts, at every time.
        #[test]
        fn nobody_is_ever_shown_what_it_cannot_trust(
            skews in proptest::array::uniform3(-200..200_i64),
            events in proptest::collection::vec(event(), 200..1500),
        ) {
            let mut world = World {
                now: 1_000_000, held: Held::default(), version: 0, bundle: String::new(), seen: Vec::new(),
                replicas: skews.iter().map(|skew| Replica { skew: *skew, shows: None }).collect(),
                mint: Counter::default(), last_round: 0,
            };
            // The first start: nobody asks yet.
            for _ in 0..4 {
                for replica in 0..3 {
                    let read = world.read(replica);
                    world.act(replica, read, None);
                }
            }
            world.now += 600;
            let (mut switched, first) = (0, world.held.authority.clone());
            for event in events {
                match event {
                    Event::Round { replica, crash } => {
                        let read = world.read(replica);
                        world.act(replica, read, crash);
                    }
                    Event::Race { first, second } => {
                        let read = world.read(first);
                        let other = world.read(second);
                        world.act(second, other, None);
                        world.act(first, read, None);
                    }
                    Event::Pass(seconds) => {
                        world.now += seconds;
                        // Replicas look every 100 s (`Lifetimes::interval`), whatever else they do.
                        for replica in 0..3 {
                            if world.now.is_multiple_of(2) || seconds > 45 {
                                let read = world.read(replica);
                                world.act(replica, read, None);
                            }
                        }
                    }
                }
                for replica in &world.replicas {
                    let shown = &replica.shows.as_ref().unwrap().facts;
                    prop_assert!(shown.valid(world.now), "{:?} at {}", shown, world.now);
                    for bundle in world.believed() {
                        prop_assert!(
                            bundle.split_whitespace().any(|word| word == shown.issuer),
                            "{} is not in {bundle:?} at {}", shown.issuer, world.now
                        );
                    }
                }
                if world.held.authority.as_ref().map(|a| &a.facts.id) != first.as_ref().map(|a| &a.facts.id) {
                    switched += 1;
                }
            }
            // A run that is long enough for it has seen whole rotations.
            prop_assert!(switched > 0 || world.now < 1_045_000, "at {}", world.now);
        }

        /// Whatever is held, whatever the clock: a few steps lead to a certificate that is valid and known.
        #[test]
        fn every_state_heals(times in proptest::array::uniform8(0..200_000_u64), parts in 0..16_u8, now in 50_000..150_000_u64, since in proptest::option::of(0..200_000_u64), keyless in any::<bool>()) {
            let mut mint = Counter(100);
            let mut pair = |from: Time, until: Time, key: &str| {
                let mut pair = mint.pair(None, &names(), from + 3600, until);
                key.clone_into(&mut pair.key);
                pair
            };
            let [a, b, c, d, e, f, g, h] = times;
            let mut held = Held {
                authority: (parts & 1 > 0).then(|| pair(a, b, "key")),
                next: (parts & 2 > 0).then(|| pair(c, d, if keyless { "" } else { "key" })),
                old: (parts & 4 > 0).then(|| pair(e, f, "")),
                serving: (parts & 8 > 0).then(|| pair(g, h, "key")),
                since,
            };
            let mut bundle = String::new();
            let mut mint = Counter::default();
            let mut time = now;
            for _ in 0..3 {
                time += LIVES.settle;
                settle(&mut held, &mut bundle, &mut mint, time);
            }
            let serving = held.serving.unwrap();
            prop_assert!(serving.facts.valid(time));
            prop_assert_eq!(&serving.facts.issuer, &held.authority.unwrap().facts.id);
            prop_assert!(bundle.split_whitespace().any(|word| word == serving.facts.issuer));
        }
    }
}
