//! Whole conversations through all of the rules: a cache as small as can be, an origin that answers what the story says.
//!
//! `@N` in a value is the HTTP date N seconds from the story's present.

use super::*;

const START_MS: u64 = 1_790_000_000_000;

type Head = Vec<(String, String)>;

struct Stored {
    key: Vec<u8>,
    variant: Vec<u8>,
    meta: StoredMeta,
    fields: Head,
}

struct Cache {
    rules: Rules,
    stored: Vec<Stored>,
    now_ms: u64,
}

/// Who the client's answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    Cache(u16),
    Origin,
    /// The origin said 304 to the stored validators.
    Validated,
    StaleOnError,
}

const CACHED: From = From::Cache(200);

impl Cache {
    fn new(rules: Rules) -> Self {
        Self { rules, stored: Vec::new(), now_ms: START_MS }
    }

    fn head(&self, lines: &[(&str, &str)]) -> Head {
        let seconds = i64::try_from(self.now_ms / 1_000).unwrap();
        let value = |text: &str| match text.strip_prefix('@') {
            Some(offset) => {
                let moment = date::format(seconds + offset.parse::<i64>().unwrap());
                String::from_utf8(moment.to_vec()).unwrap()
            }
            None => text.to_owned(),
        };
        lines.iter().map(|(name, text)| ((*name).to_owned(), value(text))).collect()
    }

    /// One request for `/`; a status of 0 means that the origin cannot be reached.
    fn ask(&mut self, method: &str, asked: &[(&str, &str)], status: u16, lines: &[(&str, &str)]) -> From {
        let (asked, answered) = (self.head(asked), self.head(lines));
        let request = Request::read(method.as_bytes(), asked.as_slice(), false, self.rules.obeys_clients);
        let mut key = Vec::new();
        write_key("http", b"a", b"/", asked.as_slice(), &self.rules, &mut key);
        let is_found = |one: &Stored| one.key == key && vary::matches(&one.variant, asked.as_slice());
        let found = self.stored.iter().rposition(is_found).filter(|_| may_look_up(&request).is_ok());
        if let Some(one) = found.map(|at| &self.stored[at]) {
            match reuse(&one.meta, &request, self.now_ms) {
                Reuse::MustValidate { .. } | Reuse::Pass(_) => {}
                Reuse::GatewayTimeout { .. } => return From::Cache(504),
                _ => return From::Cache(served(&request, one)),
            }
        } else if is_refused_on_miss(&request) {
            return From::Cache(504);
        }
        let failure = if status == 0 { Failure::Disconnected } else { Failure::Status(status) };
        let answer = Answer {
            status,
            fields: answered.as_slice(),
            length: None,
            asked_ms: self.now_ms,
            arrived_ms: self.now_ms,
        };
        if let Some(at) = found {
            let one = &self.stored[at];
            if after_error(&one.meta, &request, failure, &self.rules, self.now_ms).is_some() {
                return From::StaleOnError;
            }
            if status == 304 || method == "HEAD" {
                return self.update(at, &answer, method);
            }
        }
        if invalidates(method.as_bytes(), status) {
            self.stored.retain(|one| one.key != key);
        }
        let location = answered.as_slice().value("content-location").unwrap_or_default();
        let mut named = Vec::new();
        let names_target =
            !location.is_empty() && resolve("http", b"a", b"/", location, &mut named) && named == b"/";
        if let Storing::Store(meta) = store_decision(&request, &answer, names_target, &self.rules) {
            let mut variant = Vec::new();
            vary::write_variant(answered.as_slice(), asked.as_slice(), &mut variant);
            let fields = kept(&answer, &self.rules);
            self.stored.retain(|one| one.key != key || one.variant != variant);
            self.stored.push(Stored { key, variant, meta, fields });
        }
        From::Origin
    }

    fn update(&mut self, at: usize, answer: &Answer<[(String, String)]>, method: &str) -> From {
        let one = &self.stored[at];
        let stored = one.fields.as_slice();
        let updated = match method {
            "HEAD" => by_head(stored, &one.meta, None, answer, &self.rules),
            _ => by_not_modified(stored, &one.meta, answer, &self.rules),
        };
        let from = if method == "HEAD" { From::Origin } else { From::Validated };
        match updated {
            Updated::Fresh(meta) => {
                let merged = Merged { stored, newer: answer.fields };
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                let fields = merged.lines().map(|(name, value)| (text(name), text(value))).collect();
                self.stored[at].meta = meta;
                self.stored[at].fields = fields;
            }
            Updated::Forget(_) => drop(self.stored.remove(at)),
            Updated::Different => self.stored[at].meta = one.meta.expired(self.now_ms),
            Updated::Unrelated => {}
        }
        from
    }

    fn stored_value(&self, name: &str) -> Option<&str> {
        let value = self.stored.last()?.fields.as_slice().value(name)?;
        std::str::from_utf8(value).ok()
    }
}

fn kept(answer: &Answer<[(String, String)]>, rules: &Rules) -> Head {
    let kept = Kept::of(answer, rules);
    answer.fields.iter().filter(|line| kept.keeps(line.0.as_bytes())).cloned().collect()
}

fn served(request: &Request<[(String, String)]>, one: &Stored) -> u16 {
    let validators = Validators::of(one.fields.as_slice());
    match preconditions(request, &one.meta.whole(), &validators, Some(10), 16) {
        Served::Full => one.meta.status,
        Served::NotModified => 304,
        Served::Ranges(_) => 206,
        Served::PreconditionFailed => 412,
        Served::NotSatisfiable => 416,
    }
}

/// What a second GET gets, so many seconds after the first.
fn second(first: &[(&str, &str)], later_s: u64) -> From {
    let mut cache = Cache::new(Rules::default());
    assert_eq!(cache.ask("GET", &[], 200, first), From::Origin);
    cache.now_ms += later_s * 1_000;
    cache.ask("GET", &[], 200, &[])
}

#[test]
fn fresh_answers_are_reused_and_others_are_not() {
    let cached: [&[(&str, &str)]; 14] = [
        &[("cache-control", "max-age=3600")],
        &[("cache-control", "max-age=2147483649")],
        &[("cache-control", "max-age=3600"), ("expires", "@-7200"), ("date", "@0")],
        &[("cache-control", "max-age=3600"), ("expires", "0"), ("date", "@0")],
        &[("expires", "@-10"), ("cache-control", "max-age=0, s-maxage=3600")],
        &[("expires", "@2592000"), ("date", "@0")],
        &[("expires", "@10"), ("date", "foo")],
        &[("expires", "Tue, 19 Jan 2038 14:14:08 GMT"), ("date", "@0")],
        &[("cdn-cache-control", "max-age=10000"), ("cache-control", "no-store")],
        &[("cdn-cache-control", "max-age=3600"), ("expires", "@-10000"), ("date", "@0")],
        &[("cache-control", "no-cache=\"a\""), ("a", "1"), ("cache-control", "max-age=3600")],
        &[("cache-control", "max-age=3600"), ("set-cookie", "a=b")],
        &[("cache-control", "max-age=3600"), ("pragma", "no-cache")],
        &[("cache-control", "max-age=1, stale-while-revalidate=3600")],
    ];
    cached.iter().for_each(|first| assert_eq!(second(first, 3), CACHED, "{first:?}"));
    let fetched: [&[(&str, &str)]; 14] = [
        &[],
        &[("cache-control", "max-age=2")],
        &[("cache-control", "max-age=3600"), ("age", "7200"), ("date", "@0")],
        &[("cache-control", "max-age=3600"), ("date", "@-7200")],
        &[("cache-control", "max-age=0"), ("expires", "@3600"), ("date", "@0")],
        &[("cache-control", "s-maxage=1, max-age=3600")],
        &[("expires", "@0"), ("date", "@0")],
        &[("expires", "@300"), ("date", "@400")],
        &[("expires", "@20"), ("date", "@10"), ("age", "15")],
        &[("expires", "@10"), ("date", "@-10"), ("age", "25")],
        &[("cdn-cache-control", "max-age=1"), ("cache-control", "max-age=3600")],
        &[("cdn-cache-control", "private"), ("cache-control", "max-age=3600")],
        &[("last-modified", "@-86400"), ("date", "@0")],
        &[("cache-control", "max-age=10000, no-cache"), ("expires", "@10000"), ("date", "@0")],
    ];
    fetched.iter().for_each(|first| assert_eq!(second(first, 3), From::Origin, "{first:?}"));
}

#[test]
fn a_stale_answer_is_validated_and_fresh_again() {
    let mut cache = Cache::new(Rules::default());
    let first = [("cache-control", "max-age=2"), ("etag", "\"a\""), ("date", "@0"), ("x", "1"), ("age", "1")];
    cache.ask("GET", &[], 200, &first);
    assert_eq!(cache.ask("GET", &[], 200, &[]), CACHED);
    cache.now_ms += 3_000;
    assert_eq!(cache.ask("GET", &[], 304, &[("x", "2"), ("date", "@0")]), From::Validated);
    assert_eq!(cache.stored_value("x"), Some("2"));
    assert_eq!(cache.ask("GET", &[], 200, &[]), CACHED);
    cache.now_ms += 1_000;
    assert_eq!(cache.ask("GET", &[("if-none-match", "\"a\"")], 200, &[]), From::Cache(304));
    assert_eq!(cache.ask("GET", &[("range", "bytes=2-4")], 200, &[]), From::Cache(206));
}

#[test]
fn variants_live_beside_each_other() {
    let mut cache = Cache::new(Rules::default());
    let first = [("cache-control", "max-age=5000"), ("vary", "Foo")];
    assert_eq!(cache.ask("GET", &[("foo", "1")], 200, &first), From::Origin);
    assert_eq!(cache.ask("GET", &[("foo", "2")], 200, &first), From::Origin);
    assert_eq!(cache.ask("GET", &[("foo", "1"), ("bar", "x")], 200, &first), CACHED);
    assert_eq!(cache.ask("GET", &[], 200, &first), From::Origin);
    assert_eq!(cache.ask("GET", &[], 200, &first), CACHED);
}

#[test]
fn changes_invalidate_if_they_succeed() {
    for method in ["POST", "PUT", "DELETE", "M-SEARCH"] {
        let mut cache = Cache::new(Rules::default());
        cache.ask("GET", &[], 200, &[("cache-control", "max-age=500")]);
        assert_eq!(cache.ask(method, &[], 500, &[]), From::Origin);
        assert_eq!(cache.ask("GET", &[], 200, &[("cache-control", "max-age=500")]), CACHED, "{method}");
        assert_eq!(cache.ask(method, &[], 200, &[]), From::Origin);
        assert_eq!(cache.ask("GET", &[], 200, &[]), From::Origin, "{method}");
    }
}

#[test]
fn an_answer_to_post_serves_get_if_it_names_itself() {
    let mut cache = Cache::new(Rules::default());
    cache.ask("POST", &[], 200, &[("expires", "@5000"), ("date", "@0"), ("content-location", "/")]);
    assert_eq!(cache.ask("GET", &[], 200, &[]), CACHED);
    let mut cache = Cache::new(Rules::default());
    cache.ask("POST", &[], 200, &[("expires", "@5000"), ("date", "@0"), ("content-location", "/other")]);
    assert_eq!(cache.ask("GET", &[], 200, &[]), From::Origin);
}

#[test]
fn head_is_served_and_updates_what_get_stored() {
    let mut cache = Cache::new(Rules::default());
    cache.ask("GET", &[], 200, &[("cache-control", "max-age=2"), ("x", "1")]);
    assert_eq!(cache.ask("HEAD", &[], 200, &[]), CACHED);
    cache.now_ms += 3_000;
    assert_eq!(cache.ask("HEAD", &[], 200, &[("cache-control", "max-age=1000"), ("x", "2")]), From::Origin);
    assert_eq!((cache.ask("GET", &[], 200, &[]), cache.stored_value("x")), (CACHED, Some("2")));
    assert_eq!(
        cache.ask("HEAD", &[("cache-control", "no-cache")], 200, &[("etag", "\"new\"")]),
        From::Origin
    );
    assert_eq!(cache.ask("GET", &[], 200, &[]), From::Origin, "a HEAD of another body makes it stale");
}

#[test]
fn an_origin_that_is_gone_is_stood_in_for() {
    for (control, expected) in [
        ("max-age=2", From::StaleOnError),
        ("max-age=2, stale-if-error=60", From::StaleOnError),
        ("max-age=2, must-revalidate", From::Origin),
        ("max-age=2, proxy-revalidate", From::Origin),
        ("max-age=2, s-maxage=2", From::Origin),
        ("max-age=2, no-cache", From::Origin),
    ] {
        let mut cache = Cache::new(Rules::default());
        cache.ask("GET", &[], 200, &[("cache-control", control), ("etag", "\"a\"")]);
        cache.now_ms += 3_000;
        assert_eq!(cache.ask("GET", &[], 0, &[]), expected, "{control}");
    }
}

#[test]
fn a_later_no_store_leaves_what_is_stored_alone() {
    let mut cache = Cache::new(Rules::default());
    cache.ask("GET", &[], 200, &[("cache-control", "max-age=10000"), ("x", "1")]);
    assert_eq!(
        cache.ask("GET", &[("cache-control", "no-cache")], 200, &[("cache-control", "no-store")]),
        From::Origin
    );
    assert_eq!(cache.ask("GET", &[], 200, &[]), CACHED);
    assert_eq!(
        cache.ask("GET", &[("cache-control", "only-if-cached, max-age=0")], 200, &[]),
        From::Cache(504)
    );
}

#[test]
fn what_is_withheld_is_not_served_to_others() {
    let mut cache = Cache::new(Rules::default());
    let first = [("cache-control", "max-age=60, private=\"set-cookie\""), ("set-cookie", "a=b"), ("b", "2")];
    cache.ask("GET", &[], 200, &first);
    assert_eq!((cache.stored_value("set-cookie"), cache.stored_value("b")), (None, Some("2")));
}
