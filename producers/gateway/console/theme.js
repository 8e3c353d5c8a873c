// Apply the chosen colours before the first paint; without a choice the system's preference holds.
{
  let theme = null;
  try {
    theme = JSON.parse(localStorage.getItem("decalage.theme"));
  } catch {
    // Storage is blocked or holds something else: the system's preference holds.
  }
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
}
