//! Links from one page to another lead somewhere.

use super::{Tree, Violation};

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for (path, text) in tree.iter().filter(|(path, _)| path.ends_with(".md")) {
        let mut fenced = false;
        for (index, line) in text.lines().enumerate() {
            if line.trim_start().starts_with("```") {
                fenced = !fenced;
            }
            if fenced {
                continue;
            }
            for target in targets(line).filter(|target| !leads_somewhere(tree, path, target)) {
                found.push(Violation {
                    file: path.to_owned(),
                    line: index + 1,
                    what: format!("the link to {target} leads nowhere"),
                    mend: "correct it, or write the page",
                });
            }
        }
    }
    found
}

/// The targets of inline links and images in a line: `[text](target)`.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| {
        let target = rest.split(')').next()?;
        target
            .split(' ')
            .next()
            .map(|target| target.trim_matches(['<', '>']))
    })
}

fn leads_somewhere(tree: &Tree, page: &str, target: &str) -> bool {
    let elsewhere = ["http://", "https://", "mailto:"]
        .iter()
        .any(|scheme| target.starts_with(scheme));
    let file = target.split('#').next().unwrap_or(target);
    if elsewhere || (file.is_empty() && target.starts_with('#')) {
        return true;
    }
    resolve(page, file).is_some_and(|path| tree.has(&path))
}

/// The path from the root that `target` means on `page`; `None` where it leaves the repository.
fn resolve(page: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = page.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(page: &str) -> Vec<String> {
        let tree = Tree::of(&[
            ("README.md", ""),
            ("docs/a.md", page),
            ("docs/decisions/0001-x.md", ""),
        ]);
        check(&tree).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn links_to_files_directories_places_and_the_web_are_fine() {
        let page = "[a](decisions/0001-x.md#why) [b](../README.md) [c](decisions/) [d](#here) [e](https://x.org/y)\n\
            [f](./decisions/0001-x.md \"title\")\n```\n[g](not-a-link.md)\n```\n";
        assert_eq!(found(page), Vec::<String>::new());
    }

    #[test]
    fn links_that_lead_nowhere_are_found() {
        for target in [
            "b.md",
            "decisions/0002.md#why",
            "../docs/b.md",
            "../../outside.md",
            "decisions/0001",
        ] {
            let said = found(&format!("fine\nsee [it]({target}) or not\n"));
            assert_eq!(said.len(), 1, "{target}: {said:?}");
            assert!(said[0].starts_with("docs/a.md:2: the link to"), "{said:?}");
        }
    }

    #[test]
    fn the_second_link_of_a_line_is_looked_at() {
        assert_eq!(found("[a](../README.md), [b](b.md)").len(), 1);
    }
}
