//! The names of polecats.

/// Short, easy to say and to tell apart in a list.
const POOL: [&str; 20] = [
    "Toast", "Maple", "Flint", "Ember", "Cedar", "Pixel", "Rusty", "Comet", "Hazel", "Onyx",
    "Poppy", "Slate", "Biscuit", "Juniper", "Marble", "Nimbus", "Pepper", "Quartz", "Thistle",
    "Willow",
];

/// The first free name: the pool in order, then `Polecat-21`, `Polecat-22`, ...
pub(super) fn first_free<E>(mut taken: impl FnMut(&str) -> Result<bool, E>) -> Result<String, E> {
    for name in POOL {
        if !taken(name)? {
            return Ok(name.to_owned());
        }
    }
    let mut number = POOL.len() + 1;
    loop {
        let name = format!("Polecat-{number}");
        if !taken(&name)? {
            return Ok(name);
        }
        number += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pool_comes_first_and_then_numbers() {
        let mut taken: Vec<String> = Vec::new();
        for _ in 0..23 {
            let name =
                first_free(|name| Ok::<_, ()>(taken.iter().any(|other| other == name))).unwrap();
            taken.push(name);
        }
        assert_eq!(taken[..20], POOL);
        assert_eq!(taken[20..], ["Polecat-21", "Polecat-22", "Polecat-23"]);
    }
}
