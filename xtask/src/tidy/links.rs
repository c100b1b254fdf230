//! Links between pages have a target.

use super::tree::Tree;
use super::violation::Violation;

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
            for target in targets(line).filter(|target| !target_exists(tree, path, target)) {
                found.push(Violation {
                    file: path.to_owned(),
                    line: index + 1,
                    problem: format!("the link to {target} has no target"),
                    fix: "correct the link, or add the page",
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

fn target_exists(tree: &Tree, page: &str, target: &str) -> bool {
    let external = ["http://", "https://", "mailto:"]
        .iter()
        .any(|scheme| target.starts_with(scheme));
    let file = target.split('#').next().unwrap_or(target);
    if external || (file.is_empty() && target.starts_with('#')) {
        return true;
    }
    resolve(page, file).is_some_and(|path| tree.has(&path))
}

/// The path of `target` from the root, as linked on `page`; `None` outside the repository.
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

    fn problems(page: &str) -> Vec<String> {
        let tree = Tree::of(&[
            ("README.md", ""),
            ("docs/a.md", page),
            ("docs/decisions/0001-x.md", ""),
        ]);
        check(&tree).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn links_to_files_directories_anchors_and_the_web_are_allowed() {
        let page = "[a](decisions/0001-x.md#why) [b](../README.md) [c](decisions/) [d](#here) [e](https://x.org/y)\n\
            [f](./decisions/0001-x.md \"title\")\n```\n[g](not-a-link.md)\n```\n";
        assert_eq!(problems(page), Vec::<String>::new());
    }

    #[test]
    fn links_without_a_target_are_found() {
        for target in [
            "b.md",
            "decisions/0002.md#why",
            "../docs/b.md",
            "../../outside.md",
            "decisions/0001",
        ] {
            let found = problems(&format!("fine\nsee [it]({target})\n"));
            assert_eq!(found.len(), 1, "{target}: {found:?}");
            assert!(found[0].starts_with("docs/a.md:2: the link to"), "{found:?}");
        }
    }

    #[test]
    fn the_second_link_of_a_line_is_checked() {
        assert_eq!(problems("[a](../README.md), [b](b.md)").len(), 1);
    }
}
