//! What a CoreDNS has counted, from its metrics (`plugin/metrics`, `plugin/cache`, `plugin/reload`, `plugin/autopath`).

use std::collections::BTreeMap;

/// One reading of one CoreDNS, or the sum of several.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// Queries of clients, by their type: `A`, `AAAA`. What autopath asks by itself is not among them.
    pub requests: BTreeMap<String, f64>,
    /// Answers by their code: `NOERROR`, `NXDOMAIN`, `SERVFAIL`.
    pub responses: BTreeMap<String, f64>,
    /// Answers out of the cache.
    pub hits: f64,
    /// Queries that the cache had no answer to.
    pub misses: f64,
    /// Queries that autopath answered.
    pub autopath: f64,
    /// Whether autopath is in the Corefile that it runs with.
    pub has_autopath: bool,
    /// Corefiles that could not be loaded.
    pub failed_reloads: f64,
    /// Panics.
    pub panics: f64,
    /// Seconds of a processor.
    pub cpu: f64,
    /// The hash of the Corefile that was loaded last; nothing before the first reload.
    pub version: Option<String>,
}

impl Reading {
    /// Takes a line of the metrics.
    pub fn metric(&mut self, line: &str) {
        let Some((head, value)) = line.rsplit_once(' ') else { return };
        let Ok(value) = value.parse::<f64>() else { return };
        if head == "process_cpu_seconds_total" {
            self.cpu += value;
        }
        let Some(head) = head.strip_prefix("coredns_") else { return };
        let (name, labels) = head.split_once('{').unwrap_or((head, ""));
        // None of these labels has a quote in its value.
        let label = |name: &str| {
            let (_, rest) = labels.split_once(&format!("{name}=\""))?;
            Some(rest.split_once('"')?.0.to_owned())
        };
        match name {
            "dns_requests_total" => *self.requests.entry(label("type").unwrap_or_default()).or_default() += value,
            "dns_responses_total" => *self.responses.entry(label("rcode").unwrap_or_default()).or_default() += value,
            "cache_hits_total" => self.hits += value,
            "cache_misses_total" => self.misses += value,
            "autopath_success_total" => self.autopath += value,
            "plugin_enabled" => {
                self.has_autopath |= value > 0.0 && label("name").is_some_and(|name| name == "autopath")
            }
            "reload_failed_total" => self.failed_reloads += value,
            "panics_total" => self.panics += value,
            "reload_version_info" => self.version = label("value"),
            _ => {}
        }
    }

    /// All queries.
    #[must_use]
    pub fn queries(&self) -> f64 {
        self.requests.values().sum()
    }

    /// Answers of a code.
    #[must_use]
    pub fn answers(&self, code: &str) -> f64 {
        self.responses.get(code).copied().unwrap_or_default()
    }

    /// The part of answers that are of a code, from 0 to 1; nothing where there was none at all.
    #[must_use]
    pub fn share(&self, code: &str) -> Option<f64> {
        let all: f64 = self.responses.values().sum();
        (all >= 1.0).then(|| self.answers(code) / all)
    }

    /// Queries for each answer that there is: a lookup ends at the first name that is there, and what is not there was asked
    /// for on the way, or is nowhere. Nothing where no answer was one.
    #[must_use]
    pub fn queries_per_answer(&self) -> Option<f64> {
        self.share("NXDOMAIN").filter(|missing| *missing < 1.0).map(|missing| 1.0 / (1.0 - missing))
    }

    /// What was counted since an earlier reading. One that was started meanwhile has counted from nothing.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let less = |now: f64, then: f64| if now >= then { now - then } else { now };
        let by = |now: &BTreeMap<String, f64>, then: &BTreeMap<String, f64>| {
            now.iter()
                .map(|(key, value)| (key.clone(), less(*value, then.get(key).copied().unwrap_or_default())))
                .collect()
        };
        Self {
            requests: by(&self.requests, &earlier.requests),
            responses: by(&self.responses, &earlier.responses),
            hits: less(self.hits, earlier.hits),
            misses: less(self.misses, earlier.misses),
            autopath: less(self.autopath, earlier.autopath),
            has_autopath: self.has_autopath,
            failed_reloads: less(self.failed_reloads, earlier.failed_reloads),
            panics: less(self.panics, earlier.panics),
            cpu: less(self.cpu, earlier.cpu),
            version: self.version.clone(),
        }
    }

    /// Both together; of the version the other's.
    pub fn add(&mut self, other: &Self) {
        for (into, from) in [(&mut self.requests, &other.requests), (&mut self.responses, &other.responses)] {
            from.iter().for_each(|(key, value)| *into.entry(key.clone()).or_default() += value);
        }
        self.hits += other.hits;
        self.misses += other.misses;
        self.autopath += other.autopath;
        self.has_autopath |= other.has_autopath;
        self.failed_reloads += other.failed_reloads;
        self.panics += other.panics;
        self.cpu += other.cpu;
        self.version.clone_from(&other.version);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_counted_by_type_and_answers_by_code() {
        let text = "# HELP x\ncoredns_dns_requests_total{family=\"1\",proto=\"udp\",server=\"dns://:53\",type=\"A\",view=\"\",zone=\".\"} 4\n\
            coredns_dns_requests_total{family=\"1\",proto=\"tcp\",server=\"dns://:53\",type=\"A\",view=\"\",zone=\".\"} 1\n\
            coredns_dns_responses_total{plugin=\"forward\",rcode=\"NXDOMAIN\",server=\"dns://:53\",view=\"\",zone=\".\"} 3\n\
            coredns_dns_responses_total{plugin=\"\",rcode=\"NOERROR\",server=\"dns://:53\",view=\"\",zone=\".\"} 1e+00\n\
            coredns_plugin_enabled{name=\"autopath\",server=\"dns://:53\",view=\"\",zone=\".\"} 1\n\
            coredns_reload_version_info{hash=\"sha512\",value=\"ab\"} 1\ncoredns_reload_failed_total 2\ncoredns_panics_total\n";
        let mut reading = Reading::default();
        text.lines().for_each(|line| reading.metric(line));
        assert_eq!((reading.queries(), reading.share("NXDOMAIN")), (5.0, Some(0.75)));
        assert_eq!((reading.queries_per_answer(), Reading::default().queries_per_answer()), (Some(4.0), None));
        assert_eq!((reading.version.as_deref(), reading.failed_reloads), (Some("ab"), 2.0));
        assert!(reading.has_autopath);
        let mut later = reading.clone();
        later.add(&reading);
        assert_eq!(later.since(&reading).queries(), 5.0);
        // Started anew.
        assert_eq!(Reading { hits: 1.0, ..Reading::default() }.since(&Reading { hits: 9.0, ..reading }).hits, 1.0);
    }
}
