// The tracker: what a page says to POST /events. docs/tracker.md tells how to use it; `make tracker` builds what is
// served, footfall.min.js, which must stay below 2,048 bytes gzipped.
//
// In: the script tag's data- attributes, what happens on the page, and calls of footfall(name, options).
// Out: events. Each goes into localStorage first, with an id and a time of its own, and leaves it when the server has
// answered for it. So an event may be sent twice, by two tabs or by the page after the one that closed too early to
// hear the answer; the server stores an event_id once.
(function () {
  const script = document.currentScript
  const data = script.dataset
  const { q: early = [], props } = window.footfall || {} // calls from before this script was there; stand_in.js sets props
  if (data.dnt != null && (navigator.doNotTrack == 1 || navigator.globalPrivacyControl)) {
    window.footfall = () => {}
    return
  }
  const endpoint = data.endpoint || (data.api || script.src.replace(/\/js\/[^/]*$/, '')) + '/events'

  const FILES = /\.(7z|apk|avi|csv|dmg|docx?|epub|exe|gz|iso|key|midi?|mov|mp3|mp4|mpe?g|msi|ods|odt|pdf|pkg|pptx?|rar|rtf|txt|wav|webm|wma|wmv|xlsx?|zip)$/i

  // ---- The queue: one key an event, so that tabs never overwrite each other's. ----

  const PREFIX = 'footfall ' + endpoint + ' ' // two servers may measure one origin
  const MOST_EVENTS = 500
  const MOST_QUEUED = 2e5 // characters
  const MOST_SENT = 2e4 // characters, at most 60 kB of UTF-8: a page may have 64 KiB under way when it closes
  const LONGEST_WAIT = 36e5 // ms; a longer one is a clock that was set back

  let store // keeps its keys as properties
  try {
    store = localStorage // throws where it is denied; null in some web views
  } catch {}
  store = store || {}

  function keep(key, value) {
    try {
      store[key] = value
    } catch {
      store = { [key]: value } // full; what is in localStorage waits there for another page
    }
  }

  /** [key, event as JSON] of those that wait, the oldest first. What is too much is thrown away, the oldest first. */
  function queued() {
    let size = 0
    return Object.keys(store)
      .filter((key) => key.startsWith(PREFIX)) // then comes the time
      .sort()
      .reverse()
      .map((key) => [key, store[key]])
      .filter(([key, event], index) => {
        size += event.length
        if (index < MOST_EVENTS && size < MOST_QUEUED && !store.footfall_optout) return true
        delete store[key]
      })
      .reverse()
  }

  // ---- Sending ----

  const underWay = {} // keys
  let timer // of the next flush
  let failures = 0 // in a row
  let pause = 0 // until when, after them

  function flush() {
    timer = clearTimeout(timer)
    const waiting = queued()
    const wait = Math.max(pause, store.footfall_wait || 0) - Date.now()
    if (wait > 0 && wait < LONGEST_WAIT) {
      timer = setTimeout(flush, wait)
      return
    }
    let size = 0
    const batch = waiting.filter(([key, event]) => {
      if (underWay[key] || (size && size + event.length > MOST_SENT)) return false
      size += event.length
      return (underWay[key] = true)
    })
    if (!size) return
    fetch(endpoint, {
      method: 'POST',
      body: `{"sent_at":"${new Date().toISOString()}","events":[${batch.map((entry) => entry[1])}]}`, // text/plain: no preflight
      keepalive: size <= MOST_SENT,
      credentials: 'omit', // no cookie, of ours or of anybody
      signal: AbortSignal.timeout?.(3e4),
    })
      .then((answer) => {
        if (/^5|408|429/.test(answer.status)) throw answer
        failures = 0 // any other no is for good
        batch.forEach(([key]) => delete store[key])
      })
      .catch((answer) => {
        const wished = answer.headers?.get('Retry-After') * 1e3
        const now = Date.now()
        // What fails together fails once.
        if (pause < now) pause = now + Math.min(2 ** failures++ * 1e3, 3e5) * (0.5 + Math.random() / 2)
        if (wished > 0) keep('footfall_wait', now + Math.min(wished, LONGEST_WAIT - 1e3) + Math.random() * 1e3) // for all tabs
      })
      .then(() => {
        batch.forEach(([key]) => delete underWay[key])
        flush()
      })
  }

  // ---- The page ----

  let page // what its events have in common; none until it was seen
  let seen // its path
  let counted // whether there was a pageview for it
  let excluded
  let since = 0 // when the visitor turned to it; 0 while they look elsewhere
  let engaged = 0 // ms that were not told yet
  let lowest = 0 // pixel that was on the screen
  let depth = 0 // percent that was told

  const exclusions = new RegExp(
    `^(${(data.exclude || '')
      .replace(/\s*,\s*/g, '|')
      .replace(/[.+?()[\]{}$^\\]/g, '\\$&')
      .replace(/\*+/g, (stars) => (stars[1] ? '.*' : '[^/]*'))})$`,
  )

  let last = 0 // when the event before this one happened

  function track(event_type, options) {
    if (excluded) return
    let now = Date.now()
    // No two events of a page have the same time, so that they keep their order. A clock that was set back is believed.
    if (now <= last && now > last - 1e3) now = last + 1
    last = now
    const event_id = now + '-' + crypto.getRandomValues(new Uint32Array(4)).join('-')
    const event = {
      event_id,
      event_type,
      timestamp: new Date(now).toISOString(),
      site_id: data.site,
      screen: screen.width + 'x' + screen.height,
      props,
      ...page,
      ...options,
    }
    keep(PREFIX + event_id, JSON.stringify(event))
    timer = timer || setTimeout(flush) // what happens at once goes together
  }

  function attend() {
    const now = performance.now()
    if (since) engaged += now - since
    since = !document.hidden && document.hasFocus() ? now : 0
    lowest = Math.max(lowest, scrollY + innerHeight)
  }

  /** Says how long the page was looked at since it was said last, and how much of it was seen. */
  function tell() {
    attend()
    const reached = Math.min(Math.round((lowest / document.documentElement.scrollHeight) * 100), 100)
    if (counted && (engaged >= 1e3 || reached > depth)) {
      depth = Math.max(depth, reached)
      track('engagement', { engagement_time: Math.min(Math.round(engaged), 864e5), scroll_depth: depth })
      engaged = 0
    }
  }

  /** Has a look whether this is another page. The first counts when it is seen: not while a browser only prepares it. */
  function turn() {
    if (location.hash == '#footfall_optout') keep('footfall_optout', 1) // a link that needs no script
    const hash = data.hash == null ? '' : location.hash.split('?')[0]
    const path = location.pathname + hash
    if (path == seen || (!page && document.hidden)) return
    tell()
    counted = false
    seen = path
    excluded = exclusions.test(path)
    page = {
      url: (hash ? location.href : location.href.split('#')[0]).slice(0, 8192),
      path: /^#[^!/]/.test(hash) ? path : undefined, // else the server takes it from the URL, as #/route and #!/route
      referrer: (page ? page.url : document.referrer).slice(0, 2048),
    }
    if (data.manual == null) footfall('pageview')
    while (early[0]) footfall(...early.shift())
  }

  function leave() {
    tell()
    since = 0
    flush()
  }

  /** footfall('Signup', { props: { plan: 'pro' }, revenue: { amount: 10, currency: 'USD' } }) */
  function footfall(name, options) {
    if (!page) {
      early.push([name, options])
    } else {
      if (name == 'pageview') {
        tell()
        counted = true
        lowest = depth = engaged = 0
        page.url = options?.url || page.url
        page.path = options?.path || page.path
      }
      track(name, options)
    }
  }
  window.footfall = footfall
  /** Says who the visitor is. The site may assign the other events of the visit to them. */
  footfall.identify = (user_id) => footfall('identify', { user_id, interactive: false })

  function click(event) {
    const link = event.button < 2 && event.target.closest?.('a[href]')
    if (!link || !/^http/.test(link.protocol)) return
    const props = { url: link.origin + link.pathname }
    if (link.hasAttribute('download') || FILES.test(link.pathname)) track('File Download', { props })
    else if (link.host != location.host) track('Outbound Link: Click', { props })
  }

  const on = (target, names, handler) => {
    for (const name of names.split(' ')) target.addEventListener(name, handler, true)
  }
  on(document, 'click auxclick', click)
  on(window, 'focus blur scroll', attend)
  on(window, 'popstate hashchange', turn)
  on(window, 'pagehide', leave)
  on(window, 'pageshow', (event) => {
    if (event.persisted) {
      seen = 0
      turn()
    }
  })
  on(window, 'online', () => {
    pause = 0
    flush()
  })
  on(document, 'visibilitychange', () => {
    if (document.hidden) leave()
    else turn(), attend(), flush()
  })
  for (const name of ['pushState', 'replaceState']) {
    const original = history[name]
    history[name] = function () {
      original.apply(history, arguments)
      turn()
    }
  }
  turn()
  flush()
})()
