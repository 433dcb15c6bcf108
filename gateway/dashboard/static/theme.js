// Sets the chosen colours before anything is painted; not a module, since those run too late.
try {
  const chosen = localStorage.getItem("pointsman-theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch {
  // Storage is closed: the system's colours.
}
