// What a page does beyond htmx: parts ask for the state in the address, the chart, menus, keys and the theme.
'use strict'

const root = document.documentElement
const texts = JSON.parse(document.querySelector('meta[name=texts]').content) // in the language of the page
const KEPT = ['tabs'] // of the address, when a link was rendered before they changed
const KEPT_BY_PANELS = ['tabs', 'grain', 'figure']

// Parts and their state

document.addEventListener('htmx:configRequest', ({ detail }) => {
  const link = detail.elt
  const here = new URLSearchParams(location.search)
  const period = document.getElementById('period')
  if (period && !here.has('period') && !here.has('from')) here.set('period', period.dataset.period)
  if (link.hasAttribute('data-state')) {
    detail.path = detail.path + '?' + here
  } else if (link.closest('.world') || (detail.boosted && link.tagName === 'A' && link.pathname === location.pathname)) {
    const wanted = new URL(detail.path, location)
    for (const name of link.closest('.panel') ? KEPT_BY_PANELS : KEPT) {
      if (here.has(name)) wanted.searchParams.set(name, here.get(name))
      else wanted.searchParams.delete(name)
    }
    detail.path = wanted.pathname + wanted.search
  }
})

document.addEventListener('htmx:beforeRequest', (event) => {
  if (document.hidden && event.target.hasAttribute('data-polls')) event.preventDefault()
})

document.addEventListener('htmx:sendError', ({ detail }) => {
  const part = detail.elt.closest('.panel, .hero') || document.getElementById('hero')
  if (!part || detail.elt.hasAttribute('data-polls')) return
  const said = document.createElement('div')
  said.className = 'trouble'
  said.setAttribute('role', 'alert')
  const title = document.createElement('b')
  title.textContent = texts.no_answer
  const again = document.createElement('button')
  again.className = 'pick'
  again.textContent = texts.load_again
  again.onclick = () => location.reload()
  said.append(title, again)
  part.replaceChildren(said)
})

// Back and forward load the page from the server. Until then, it looks like any page that loads.
document.addEventListener('htmx:historyCacheMiss', () => document.getElementById('hero')?.classList.add('htmx-request'))

// The chart draws the table that follows it.

const written = (value, options) => new Intl.NumberFormat(root.lang, options).format(value)

const UNITS = {
  count: (value) => written(value, { notation: 'compact' }).replace('K', 'k'),
  ratio: (value) => written(value, { maximumFractionDigits: 1 }),
  percent: (value) => written(value / 100, { style: 'percent' }),
  duration: (value) =>
    (value < 60 ? texts.seconds : texts.minutes).replace('%(count)s', written(value < 60 ? value : value / 60, { maximumFractionDigits: value < 60 ? 0 : 1 })),
}

const color = (name) => getComputedStyle(root).getPropertyValue(name).trim()

function chartOf(figure) {
  const plot = figure.querySelector('.plot')
  const tip = figure.querySelector('.tip')
  const read = figure.querySelector('[aria-live]')
  const rows = [...figure.querySelectorAll('tbody tr')]
  const number = (text) => (text === undefined || text === '' ? null : Number(text))
  const now = rows.map((row) => number(row.dataset.now))
  const before = rows.map((row) => number(row.dataset.before))
  const open = rows.findIndex((row) => 'open' in row.dataset)
  const isImported = (i) => rows[i] !== undefined && 'imported' in rows[i].dataset
  const closed = now.map((value, i) => ((open < 0 || i < open) && !isImported(i) ? value : null))
  const imported = now.map((value, i) => ([i - 1, i, i + 1].some(isImported) ? value : null)) // up to the next points
  const dashed = now.map((value, i) => (open >= 0 && (i === open || i === open - 1) ? value : null))
  const alone = (i) => now[i] !== null && now[i - 1] == null && now[i + 1] == null
  const shown = UNITS[figure.dataset.unit]
  const accent = color('--accent')
  const font = '11px ' + getComputedStyle(document.body).fontFamily
  const line = { stroke: accent, width: 2, spanGaps: false }

  const splits = (u) => {
    const labels = rows.map((row) => row.dataset.tick)
    const most = Math.max(2, Math.floor(u.bbox.width / devicePixelRatio / 84))
    const step = Math.ceil(rows.length / most)
    return rows.map((_, i) => i).filter((i) => i % step === 0 && (i === 0 || labels[i] !== labels[i - step]))
  }

  const tell = (u) => {
    const i = u.cursor.idx
    tip.hidden = i == null || u.cursor.left < 0
    if (tip.hidden) return
    const [name, value, then] = rows[i].children
    const strong = document.createElement('b')
    strong.textContent = value.textContent || '–'
    tip.replaceChildren(name.textContent, strong, then ? then.textContent.trim() : '')
    const left = u.cursor.left + u.bbox.left / devicePixelRatio + 8
    const most = figure.clientWidth - tip.offsetWidth - 8
    tip.style.left = Math.max(8, left + 16 > most ? left - tip.offsetWidth - 16 : left + 16) + 'px'
  }

  const drawFlags = (u) => {
    const pixel = devicePixelRatio
    u.ctx.save()
    u.ctx.strokeStyle = u.ctx.fillStyle = color('--ink-2')
    u.ctx.lineWidth = pixel
    for (const [i, row] of rows.entries()) {
      if (!row.dataset.note) continue
      const x = Math.round(u.valToPos(i, 'x', true))
      const { top, height } = u.bbox
      u.ctx.beginPath()
      u.ctx.moveTo(x, top + height)
      u.ctx.lineTo(x, top)
      u.ctx.stroke()
      u.ctx.fillRect(x, top, 9 * pixel, 6 * pixel)
    }
    u.ctx.restore()
  }

  const chart = new uPlot(
    {
      width: plot.clientWidth,
      height: plot.clientHeight,
      padding: [10, 24, 0, 0],
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, points: { size: 8, fill: color('--surface'), width: 2 } },
      scales: {
        x: { time: false, range: (_, low, high) => (low === high ? [low - 1, high + 1] : [low, high]) },
        y: { range: (_, low, high) => [0, Math.max(['count', 'duration'].includes(figure.dataset.unit) ? 4 : 1, high * 1.12)] },
      },
      axes: [
        { splits, values: (_, at) => at.map((i) => rows[i].dataset.tick), font, size: 28, stroke: color('--ink-3'), grid: { show: false }, ticks: { show: false } },
        { values: (_, at) => at.map((value, i) => (value === 0 ? '' : shown(value))), font, size: 48, space: 40, stroke: color('--ink-3'), grid: { stroke: color('--line'), width: 1 }, ticks: { show: false }, incrs: figure.dataset.unit === 'count' ? [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6, 2e6, 5e6, 1e7] : undefined },
      ],
      series: [
        {},
        { stroke: color('--compare'), width: 1.5, spanGaps: false, points: { show: rows.length < 2 } },
        { ...line, fill: accent + '14', points: { show: rows.length < 2 || closed.some((_, i) => alone(i)), size: 6 } },
        { ...line, dash: [4, 4], points: { show: open === 0, size: 6 } },
        { ...line, stroke: color('--ink-2'), dash: [2, 3], points: { show: rows.some((_, i) => isImported(i) && alone(i)), size: 6 } },
      ],
      hooks: { setCursor: [tell], draw: [drawFlags] },
    },
    [rows.map((_, i) => i), before, closed, dashed, imported],
    plot,
  )

  plot.onkeydown = (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key]
    if (step === undefined) return
    event.preventDefault()
    const at = chart.cursor.idx ?? (step > 0 ? -1 : rows.length)
    const i = Math.min(rows.length - 1, Math.max(0, at + step))
    chart.setCursor({ left: chart.valToPos(i, 'x'), top: 10 })
    read.textContent = [...rows[i].children].map((cell) => cell.textContent.trim()).join(', ')
  }
  plot.onblur = () => chart.setCursor({ left: -10, top: -10 })
  plot.onpointermove = plot.onpointerdown = (event) => {
    if (event.pointerType === 'mouse') return
    const box = chart.over.getBoundingClientRect()
    chart.setCursor({ left: event.clientX - box.left, top: 10 })
  }
  figure.classList.add('drawn')
  return chart
}

const charts = new Map() // by the figure's element

const resized = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    const chart = charts.get(target.closest('.chart'))
    if (chart && target.clientWidth) chart.setSize({ width: target.clientWidth, height: target.clientHeight })
  }
})

function drawCharts(again) {
  for (const [figure, chart] of charts) {
    if (again || !figure.isConnected) {
      chart.destroy()
      charts.delete(figure)
    }
  }
  for (const figure of document.querySelectorAll('.chart')) {
    if (charts.has(figure)) continue
    charts.set(figure, chartOf(figure))
    resized.observe(figure.querySelector('.plot'))
  }
}

document.addEventListener('htmx:load', () => drawCharts(false))
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => drawCharts(true))

// On a narrow screen, each cell of a stacked table begins with the name of its column.

for (const table of document.querySelectorAll('.stacked')) {
  const names = [...table.tHead.rows[0].cells].map((cell) => cell.textContent)
  for (const row of table.tBodies[0].rows) for (const [i, cell] of [...row.cells].entries()) cell.dataset.column = names[i]
}

// Menus close when the focus or a click goes elsewhere.

function closeMenus(except) {
  for (const menu of document.querySelectorAll('details.menu[open]')) if (!except || !menu.contains(except)) menu.open = false
}

document.addEventListener('click', (event) => closeMenus(event.target))
document.addEventListener('focusin', (event) => closeMenus(event.target))

// The filter builder offers the operators of the chosen dimension. A duration is a number of seconds, or m:ss.

document.addEventListener('change', ({ target }) => {
  if (target.id !== 'dimension') return
  const isNumber = 'number' in target.selectedOptions[0].dataset
  const operator = document.getElementById('operator')
  for (const option of operator.options) option.hidden = option.disabled = !((isNumber ? 'numbers' : 'texts') in option.dataset)
  if (operator.selectedOptions[0].disabled) operator.value = 'is'
  const value = target.form.elements.value
  value.pattern = { duration: '[0-9]{1,9}|([0-9]{1,4}:)?[0-9]{1,2}:[0-9]{2}', views: '[0-9]{1,9}' }[target.value] ?? '.*'
  value.placeholder = value.title = { duration: texts.duration_hint, views: texts.number_hint }[target.value] ?? ''
})

// A new site gets the time zone of the browser, which may be changed.

for (const field of document.querySelectorAll('[data-own-zone]')) field.value = Intl.DateTimeFormat().resolvedOptions().timeZone || field.value

// A calendar chooses the two dates of a form: the first click is the first day, the second one the last day.

const DAY = 864e5
const dayOf = (time) => new Date(time).toISOString().slice(0, 10)
const named = (time, options) => new Intl.DateTimeFormat(root.lang, { timeZone: 'UTC', ...options }).format(time)
const make = (name, properties) => Object.assign(document.createElement(name), properties)
const asked = new Intl.Locale(navigator.languages.find((each) => each.split('-')[0] === root.lang) ?? root.lang)
const firstWeekday = (asked.getWeekInfo?.() ?? asked.weekInfo)?.firstDay ?? 1 // Monday is 1, Sunday is 7

function addCalendar(form) {
  const [first, last] = form.querySelectorAll('[type=date]')
  const before = make('button', { type: 'button', className: 'add', textContent: '‹', ariaLabel: texts.month_before })
  const after = make('button', { type: 'button', className: 'add', textContent: '›', ariaLabel: texts.month_after })
  const title = make('b', { ariaLive: 'polite' })
  const table = make('table', {})
  const head = make('div', { className: 'month' })
  head.append(before, title, after)
  form.querySelector('.calendar').append(head, table)
  let month = 0 // its first day
  let isBegun = false // the first day is chosen, and the last one is not

  const mark = () => {
    const [from, to] = [first.value, last.value || first.value]
    for (const button of table.querySelectorAll('button')) {
      button.ariaPressed = String(button.value === from || button.value === to)
      button.classList.toggle('between', from < button.value && button.value < to)
    }
  }

  const show = (time, focused) => {
    const day = Math.min(time, Date.parse(first.max))
    month = Date.parse(dayOf(day).slice(0, 8) + '01')
    title.textContent = named(month, { month: 'long', year: 'numeric' })
    const start = month - ((new Date(month).getUTCDay() - firstWeekday + 7) % 7) * DAY
    const names = make('tr', {})
    const rows = [names]
    for (let at = start; at < start + 7 * DAY; at += DAY) {
      names.append(make('th', { scope: 'col', abbr: named(at, { weekday: 'long' }), textContent: named(at, { weekday: 'short' }).slice(0, 2) }))
    }
    for (let at = start; at < start + 7 * DAY || dayOf(at).slice(0, 7) === dayOf(month).slice(0, 7); at += DAY) {
      if ((at - start) % (7 * DAY) === 0) rows.push(make('tr', {}))
      const cell = make('td', {})
      if (dayOf(at).slice(0, 7) === dayOf(month).slice(0, 7)) {
        cell.append(make('button', {
          type: 'button', value: dayOf(at), textContent: new Date(at).getUTCDate(), ariaLabel: named(at, { dateStyle: 'full' }),
          disabled: dayOf(at) > first.max, tabIndex: at === day ? 0 : -1,
        }))
      }
      rows.at(-1).append(cell)
    }
    table.replaceChildren(...rows)
    after.disabled = dayOf(month).slice(0, 7) >= first.max.slice(0, 7)
    mark()
    if (focused) table.querySelector(`[value="${dayOf(day)}"]`).focus()
  }

  before.onclick = () => show(month - DAY)
  after.onclick = () => show(month + 31 * DAY)
  table.onclick = ({ target }) => {
    if (!target.value) return
    if (isBegun) {
      const days = [first.value, target.value].sort()
      first.value = days[0]
      last.value = days[1]
      form.requestSubmit()
    } else {
      first.value = target.value
      last.value = ''
      mark()
    }
    isBegun = !isBegun
  }
  table.onkeydown = (event) => {
    const days = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -7, ArrowDown: 7 }[event.key]
    if (!days || !event.target.value) return
    event.preventDefault()
    show(Date.parse(event.target.value) + days * DAY, true)
  }
  show(Date.parse(last.value || last.max))
}

document.addEventListener('toggle', ({ target }) => {
  const place = target.open && target.querySelector('.calendar:empty')
  if (place) addCalendar(place.closest('form'))
}, true)

// Keys

const isTyping = (element) => element.matches('input, select, textarea, [contenteditable]')

function openMenu(field) {
  const menu = field.closest('details')
  menu.open = true
  field.focus()
}

document.addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return
  if (event.key === 'Escape') {
    const menu = document.querySelector('details.menu[open]')
    if (menu) {
      menu.open = false
      menu.querySelector('summary').focus()
    } else if (!isTyping(event.target) && !document.querySelector('dialog[open]')) document.querySelector('[data-escape]')?.click()
    return
  }
  if (isTyping(event.target) || document.querySelector('dialog[open]')) return
  const actions = {
    c: () => openMenu(document.getElementById('from')),
    '/': () => openMenu(document.getElementById('dimension')),
    '?': () => document.getElementById('shortcuts').showModal(),
  }
  const link = document.querySelector(`[data-key="${CSS.escape(event.key.toLowerCase())}"]`)
  if (!document.getElementById('shortcuts') || !(link || actions[event.key])) return
  event.preventDefault()
  if (link) link.click()
  else actions[event.key]()
})

// The theme: the system's, unless one was chosen. The server reads the cookie.

function showTheme() {
  for (const button of document.querySelectorAll('[data-theme-choice]')) {
    button.setAttribute('aria-pressed', String((root.dataset.theme || '') === button.dataset.themeChoice))
  }
}

document.addEventListener('click', (event) => {
  const button = event.target.closest('[data-theme-choice]')
  if (!button) return
  const theme = button.dataset.themeChoice
  if (theme) root.dataset.theme = theme
  else delete root.dataset.theme
  document.cookie = `theme=${theme}; path=/; max-age=${theme ? 31536000 : 0}; samesite=lax`
  showTheme()
  drawCharts(true)
})

document.addEventListener('htmx:load', showTheme)
