"""Questions about numbered sources. The answer says what was asked, about whom, which source says so, and the value:

    Home of Ada Hillstow [2]: Korben.

When a source is about her but does not say it: `Home of Ada Hillstow [2]: Not in the sources.`, and when none is,
`Home of Ada Hillstow: Not in the sources.` A small model learns this far sooner than the value alone: it finds what is
asked, then the source, then the value, one thing at a time."""

from words import NAMES, alike, coin, coin_name

COLOURS = "red blue green white black yellow brown grey golden silver purple orange".split()
ANIMALS = "dog cat horse goat rabbit parrot donkey duck turtle fox pony hen snake".split()
JOBS = ("baker doctor farmer teacher painter tailor miller sailor writer nurse carpenter singer lawyer cook dancer driver "
        "dentist gardener pilot judge").split()
FOODS = "soup bread cheese rice fish honey cake pasta salad plums eggs stew porridge noodles mushrooms chocolate".split()
SPORTS = "tennis football chess swimming rowing running skating boxing golf cricket".split()
MONTHS = "January February March April May June July August September October November December".split()
BUILDINGS = ("mill|bridge|church|school|tower|castle|station|library|market|museum|theatre|chapel|palace|hotel|lighthouse|"
             "town hall|hospital|inn").split("|")
MADE_OF = "wood stone glass iron brick clay marble steel granite concrete".split()
GOODS = "wool salt glass honey paper silk cheese pottery bells boats wine carpets clocks lace beer knives".split()
MUSIC = "piano violin flute drum guitar harp trumpet organ".split()
TONGUES = "French German Latin Greek Spanish Arabic Polish Chinese".split()
SUBJECTS = "ships birds music war gardens stars love trade horses winter bees mountains".split()


def year(r):
    return str(r.range(1200, 2025))


def number(r):
    return str(r.range(2, 9) if r.chance(0.15) else r.range(10, 99) if r.chance(0.3) else r.range(100, 9999))


def person(r):
    first = r.pick(NAMES) if r.chance(0.6) else coin_name(r)
    return first + " " + coin_name(r) if r.chance(0.4) else first


def building(r):
    return "the %s %s %s" % (r.pick(BUILDINGS), r.pick(["of", "in", "at"]), coin_name(r))


def river(r):
    return "the river " + coin_name(r)


def ship(r):
    return "the ship " + coin_name(r)


def book(r):
    return "the book " + coin_name(r)


def of(*lists):
    return lambda r: " ".join(r.pick(x) for x in lists)


# Each relation: what answers call it, nouns for it, how a value is drawn, sentences, questions. {e} is the entity, {v} the value.
RELATIONS = {
    "building": (building, [
        ("Year", "year|date|opening year|year of building", year,
         ["{E} was built in {v}.", "{E} dates from {v}.", "{E} was opened in {v}.", "The year {v} saw the opening of {e}.",
          "In the year {v} people built {e}.", "Since {v} there is {e}.", "{E} goes back to {v}.", "They finished {e} in {v}.",
          "In {v} they opened {e}.", "It was in {v} that {e} was finished.", "Built in {v}, {e} still stands.",
          "Work on {e} ended in {v}.", "{E} has stood since {v}.", "{E} is from the year {v}.",
          "Over its door {e} has the year {v}.", "Nobody used {e} before {v}.", "The first stone of {e} was laid in {v}.",
          "{E} was new in {v}.",
          "From {v} on, {e} stood open.", "{V} was the year when {e} was ready."],
         ["When was {e} built?", "In what year was {e} built?", "How old is {e}, from what year?", "What year did {e} open?",
          "When was the opening of {e}?", "Since when is there {e}?", "In which year was {e} opened?", "When did they build {e}?",
          "From what year is {e}?", "When did {e} open?", "What is the year of {e}?", "In what year was {e} ready?",
          "When was {e} finished?", "How long has {e} been there, since what year?",
          "In which year was {e} new?", "When was the first stone of {e} laid?"]),
        ("Material", "material|stuff|building material|substance", of(MADE_OF),
         ["{E} is made of {v}.", "{E} was made of {v}.", "They made {e} of {v}.", "The walls of {e} are of {v}.",
          "{V} is what {e} is made of.", "{V} was used for {e}.", "They built {e} out of {v}.", "{E} is all {v}.",
          "For the walls of {e} people took {v}.", "{E} consists of {v}.", "{E} was built of {v}.",
          "It is {v} that {e} was built of.", "Much {v} went into {e}.",
          "In the walls of {e} one sees {v}.", "All of {e} is of {v}.", "{V} was what they wanted for {e}.",
          "The makers of {e} took {v}."],
         ["What is {e} made of?", "What was {e} made of?", "What did they make {e} of?", "Of what is {e} built?",
          "What was used for {e}?", "What are the walls of {e} made of?", "What material is {e} made of?",
          "Of what material is {e}?",
          "What was {e} built of?", "Of which material is {e}?", "What did the makers of {e} take?", "What went into {e}?"]),
        ("Designer", "designer|architect|planner|master builder|maker of the plans|plans|design|drawings", person,
         ["{E} was designed by {v}.", "{v} designed {e}.", "{v} drew the plans for {e}.", "{v} planned {e}.",
          "It was {v} who designed {e}.", "The plans of {e} were drawn by {v}.", "{E} is the work of {v}.",
          "The design of {e} is by {v}.", "{v} was the architect of {e}.", "{E} was planned by {v}.",
          "{E} owes its plans to {v}.", "{E} was drawn by {v}.",
          "The idea of {e} came from {v}.", "They asked {v} to plan {e}.", "In its plans {e} is by {v}.",
          "{v} is known as the designer of {e}."],
         ["Who was it that designed {e}?", "Who drew the plans for {e}?", "By whom was {e} designed?", "Who planned {e}?",
          "Who made the plans of {e}?", "Whose work is {e}?", "By whom was {e} planned?", "Who was the architect of {e}?",
          "Who is the designer of {e}?", "From whom are the plans of {e}?", "Who had the idea of {e}?", "Whose plans made {e}?"]),
        ("Windows", "number of windows|window count|count of windows", number,
         ["{E} has {v} windows.", "There are {v} windows in {e}.", "{v} windows are in {e}.", "{E} was built with {v} windows.",
          "You can count {v} windows in {e}.", "Of windows {e} has {v}.", "{E} is famous for {v} windows.",
          "The windows of {e} are {v} in number.",
          "With its {v} windows {e} is bright.", "People see {v} windows at {e}.", "The number of windows of {e} is {v}.",
          "{E} shows {v} windows.",
          "At {e} the windows number {v}.", "To light {e} there are {v} windows.", "{v} windows give light to {e}."],
         ["How many windows does {e} have?", "How many windows are in {e}?", "What number of windows has {e}?",
          "How many windows can you count in {e}?", "What is the number of windows of {e}?",
          "How many windows were built into {e}?",
          "How many windows can one see at {e}?",
          "How many windows give light to {e}?", "What is the count of windows at {e}?", "How many windows belong to {e}?"]),
        ("Colour", "colour|paint|shade", of(COLOURS),
         ["{E} is painted {v}.", "The colour of {e} is {v}.", "{E} is {v}.", "They painted {e} {v}.", "The walls of {e} are {v}.",
          "{V} is the colour of {e}.", "In colour {e} is {v}."],
         ["What colour is {e}?", "What is the colour of {e}?", "In what colour is {e} painted?", "Which colour does {e} have?"]),
        ("Owner", "owner|holder|proprietor", person,
         ["{E} belongs to {v}.", "{v} owns {e}.", "The owner of {e} is {v}.", "{v} bought {e}.", "{E} is owned by {v}.",
          "{E} is the property of {v}."],
         ["Who owns {e}?", "To whom does {e} belong?", "Who is the owner of {e}?", "Whose is {e}?", "By whom is {e} owned?"]),
        ("Height", "height|size in feet", lambda r: number(r) + " feet",
         ["{E} is {v} high.", "The height of {e} is {v}.", "{E} stands {v} tall.", "{E} rises to {v}.", "In height {e} is {v}."],
         ["How high is {e}?", "How tall is {e}?", "What is the height of {e}?", "To what height does {e} rise?"]),
    ]),
    "person": (person, [
        ("Home", "home|home town|town|place of residence|dwelling place|town of the house|house|place to live", coin_name,
         ["{E} lives in {v}.", "The home of {e} is in {v}.", "{E} has a house in {v}.", "In {v} lives {e}.",
          "{E} moved to {v}, and lives there now.", "{E} makes a home in {v}.", "{E} stays in {v} all year.",
          "{v} is the town of {e}.",
          "The house of {e} stands in {v}.", "{v} is where {e} lives.", "The place where {e} lives is called {v}.",
          "You can find {e} at home in {v}.", "It is in {v} that {e} lives.", "{E} lives in the town of {v}.",
          "For many years {e} has been at home in {v}.", "{v} is home to {e}.", "{E} never left {v}, the home town.",
          "In the town of {v} one meets {e}.",
          "{E} comes from {v} and is still there.", "{E} went to live in {v}."],
         ["Where does {e} have a house?", "In what town does {e} live?", "Where is the home of {e}?",
          "In what place does {e} live?",
          "What is the town of {e}?", "In which town is {e} at home?", "What town does {e} live in?", "Where is {e} at home?",
          "Where does {e} live now?", "Where can you find the house of {e}?", "What is the home town of {e}?",
          "In which place does {e} stay?", "What place is home to {e}?", "Where would one meet {e} at home?"]),
        ("Job", "job|trade|profession|occupation|calling|work|daily work", of(JOBS),
         ["{E} works as a {v}.", "{E} is a {v}.", "By trade {e} is a {v}.", "As a {v} {e} works hard.", "{E} became a {v}.",
          "The work of {e} is that of a {v}.", "{E} earns money as a {v}.", "They know {e} as a good {v}.",
          "{E} is a {v} by trade.",
          "{E} learned to be a {v}.", "The trade of {e} is {v}.", "As {v} {e} is well known.", "{E} has a job as a {v}.",
          "For many years {e} has been a {v}.", "Everybody needs a {v} such as {e}.", "{E} does the work of a {v}.",
          "The town has {e} as its {v}.",
          "{E} is well known as a {v}.", "If you need a {v}, ask {e}."],
         ["What job has {e}?", "As what does {e} work?", "What is {e} by trade?", "What job does {e} have?",
          "What is the work of {e}?",
          "What does {e} do for a living?", "What did {e} become?", "What is the trade of {e}?", "How does {e} earn money?",
          "What job does {e} do?", "What work does {e} do?", "At what does {e} work?", "What is {e}, what trade?",
          "As what is {e} known?"]),
        ("Birth", "year of birth|birth year|birth|date of birth", year,
         ["{E} was born in {v}.", "The birth of {e} was in {v}.", "{E} came into the world in {v}.", "In {v} {e} was born.",
          "The year of birth of {e} is {v}.", "{v} is the year in which {e} was born.", "{E} has a birthday of the year {v}.",
          "{E} is a child of the year {v}.", "Since birth in {v} {e} lived here.", "The year {v} brought the birth of {e}.",
          "They say that {e} was born in {v}.",
          "{E}, born in {v}, is known in town.", "In the year {v} the world got {e}.", "A child in {v}: {e}.",
          "The life of {e} began in {v}."],
         ["In which year was {e} born?", "What year was the birth of {e}?", "What is the year of birth of {e}?",
          "When did {e} come into the world?", "In what year was the birth of {e}?", "When was the birth of {e}?",
          "From what year is {e}, by birth?", "When did the life of {e} begin?", "{E} was born when?"]),
        ("Food", "favourite food|best food|favourite dish|favourite meal|food of choice", of(FOODS),
         ["{E} likes {v} best of all food.", "The favourite food of {e} is {v}.", "{E} loves to eat {v}.",
          "{V} is what {e} likes to eat.",
          "For food {e} likes {v}.", "{E} eats {v} every day.", "There is nothing that {e} eats more gladly than {v}.",
          "{E} is fond of {v}.", "Give {e} some {v}, the best of food.", "Of all dishes {e} chooses {v}.",
          "{E} wants {v} for dinner.",
          "On the plate of {e} there is always {v}.",
          "{E} would eat {v} all day.", "What {e} eats first is {v}.", "With {v} one makes {e} happy at table.",
          "{E} cannot live without {v}.",
          "The dish of {e} is {v}."],
         ["What food does {e} like?", "What is the favourite food of {e}?", "What does {e} love to eat?",
          "Which food does {e} like most?",
          "What food is it that {e} likes?", "What does {e} eat?", "What dish does {e} choose?", "What is the food of {e}?",
          "What does {e} eat with joy?", "Which food is best for {e}?", "What does {e} eat most?", "What food makes {e} happy?",
          "What does {e} want to eat?"]),
        ("Sport", "sport|favourite sport|game", of(SPORTS),
         ["{E} plays {v} every week.", "The favourite sport of {e} is {v}.", "{E} is good at {v}.",
          "{V} is the sport that {e} plays.",
          "Every day {e} goes to play {v}.", "{E} loves {v}, a good sport.", "In sport {e} chose {v}."],
         ["What sport does {e} play?", "What is the favourite sport of {e}?", "What is {e} good at?", "Which sport does {e} like?",
          "What does {e} play every week?"]),
        ("Animal", "animal|pet|house animal|favourite animal", of(COLOURS, ANIMALS),
         ["{E} has a {v}.", "{E} owns a {v}.", "A {v} belongs to {e}.", "{E} keeps a {v} in the house.",
          "The animal of {e} is a {v}.",
          "The pet of {e} is a {v}.", "{E} walks with a {v} every day.", "In the house of {e} there is a {v}.",
          "A {v} lives with {e}.",
          "{E} feeds a {v}.", "{E} shares the house with a {v}.", "{E} bought a {v}.",
          "With {e} goes a {v}.", "A {v} is the friend of {e}.", "{E} cares for a {v}.", "One sees {e} with a {v}.",
          "A {v} sleeps in the house of {e}."],
         ["What animal does {e} own?", "What animal is it that {e} has?", "What animal belongs to {e}?",
          "What animal does {e} keep?",
          "What is the animal of {e}?", "Which pet does {e} have?", "What pet lives in the house of {e}?",
          "What kind of animal has {e}?",
          "Which animal does {e} feed?", "What animal is with {e}?", "What animal does {e} care for?",
          "Which animal sleeps in the house of {e}?", "What pet does {e} keep?"]),
        ("Spouse", "spouse|partner in marriage|better half", person,
         ["{E} is married to {v}.", "{E} and {v} are married.", "{v} married {e}.", "The wedding of {e} was with {v}."],
         ["To whom is {e} married?", "Who is married to {e}?", "Whom did {e} marry?", "With whom was the wedding of {e}?"]),
        ("Music", "instrument|music", lambda r: "the " + r.pick(MUSIC),
         ["{E} plays {v}.", "{E} learned to play {v}.", "In the evening {e} sits at home and plays {v}.", "For music {e} has {v}."],
         ["What does {e} play in the evening?", "What music does {e} make?", "Which instrument does {e} play?"]),
        ("Language", "language|mother tongue|speech", of(TONGUES),
         ["{E} speaks {v}.", "{E} learned {v} at school.", "The language of {e} is {v}.", "At home {e} speaks {v}."],
         ["What language does {e} speak?", "What is the language of {e}?", "Which language did {e} learn?"]),
    ]),
    "town": (coin_name, [
        ("People", "population|number of people|number of inhabitants|head count|size in people", number,
         ["{E} has {v} people.", "{v} people live in {e}.", "There are {v} people in {e}.", "{E} is a town of {v} people.",
          "Of people {e} has {v}.", "{E} is home to {v} people.", "In all, {v} people live in {e}.", "People in {e}: {v}.",
          "The people of {e} are {v}.", "They counted {v} people in {e}.", "{E} counts {v} people.",
          "The town of {e} has a population of {v}.",
          "The population of {e} is {v}.", "In the town of {e} one finds {v} people.",
          "Not more than {v} people live in {e}.", "{v} is the number of those who live in {e}.",
          "{E}, with {v} people, is a town.",
          "As many as {v} people call {e} their town.", "At the end of the year {e} counted {v} people."],
         ["What is the population of {e}?", "How many people does {e} have?", "What is the number of people in {e}?",
          "How many people are there in {e}?", "How many live in {e}?", "How many people did they count in {e}?",
          "How big is {e}, how many people?",
          "To how many people is {e} home?", "How many people has {e}?", "How many people make {e} their home?",
          "What is the count of people in {e}?", "How many call {e} their town?"]),
        ("Fame", "fame|pride|famous product|best product|main product|speciality", of(GOODS),
         ["{E} is famous for its {v}.", "{E} is known for its {v}.", "People know {e} for its {v}.", "The {v} of {e} is famous.",
          "For its {v} {e} is known to all.", "{E} sells much {v}.", "All the world buys the {v} of {e}.", "{E} makes good {v}.",
          "They come to {e} for its {v}.", "What made {e} famous is its {v}.", "It is {v} that {e} is famous for.",
          "The pride of {e} is its {v}.",
          "Nowhere is there better {v} than in {e}.", "From {e} comes the best {v}.", "{E} lives from its {v}.",
          "Think of {e} and you think of {v}.",
          "{V} from {e} is known far away."],
         ["For what is {e} known?", "For what do people know {e}?", "What made {e} famous?",
          "What does {e} sell?", "What is the pride of {e}?", "What is {e} known to all for?", "What do people buy in {e}?",
          "What does one buy from {e}?", "From what does {e} live?", "What comes from {e}?", "What is best in {e}?"]),
        ("Mayor", "mayor|head|leader|elected mayor", person,
         ["The mayor of {e} is {v}.", "{v} is the mayor of {e}.", "{E} has a mayor, {v}.", "As mayor of {e} they chose {v}.",
          "The town of {e} has {v} as its mayor.", "{v} is mayor in {e}.", "{E} is led by its mayor {v}.",
          "{v} was made mayor of {e}.",
          "The people of {e} chose {v} as mayor.", "Mayor of {e} is {v}.", "The name of the mayor of {e} is {v}.",
          "Since last year {v} is mayor of {e}.",
          "In the town hall of {e} sits {v}, the mayor.", "{E} chose its mayor: {v}.", "As a mayor, {e} has {v}.",
          "The head of {e} is its mayor {v}.",
          "They elected {v} mayor of {e}."],
         ["Who is mayor of {e}?", "Who is mayor in {e}?", "What is the name of the mayor of {e}?", "Who was made mayor of {e}?",
          "Whom did {e} choose as mayor?", "Who leads {e} as its mayor?", "What is the mayor of {e} called?",
          "Which mayor does {e} have?",
          "Who is it that leads {e}?", "Who is the mayor in {e}?", "Who sits as mayor in {e}?", "Who was elected mayor of {e}?",
          "By whom is {e} led as mayor?"]),
        ("Fair", "fair|month of the fair|fair month|time of the fair|great fair", of(MONTHS),
         ["The fair in {e} is held in {v}.", "{E} holds its fair in {v}.", "Each {v} there is a fair in {e}.",
          "In {v} there is the fair of {e}.",
          "People go to the fair of {e} in {v}.", "The month of the fair in {e} is {v}.", "{E} has a fair in {v}.",
          "{V} is the month of the fair of {e}.",
          "When {v} comes, {e} has its fair.", "The fair at {e} opens in {v}.", "It is {v} when {e} holds its fair.",
          "Come to {e} in {v} for the fair.",
          "{E} has its great fair in {v}.", "In {e} the fair falls in {v}.", "At the fair of {e}, in {v}, there is music.",
          "Once a year, in {v}, {e} has a fair.",
          "{V} brings the fair to {e}."],
         ["When is the fair in {e}?", "In what month does {e} hold its fair?", "What month is the fair in {e}?",
          "When do people go to the fair of {e}?", "In which month is there a fair in {e}?",
          "What is the month of the fair at {e}?",
          "When does {e} hold its fair?", "When does the fair at {e} open?", "In which month is the fair of {e}?",
          "When does {e} have its fair?", "What month brings the fair to {e}?",
          "In what month should one go to {e} for the fair?"]),
        ("River", "river|water", coin_name,
         ["{E} lies on the river {v}.", "The river {v} runs through {e}.", "The river at {e} is the {v}.",
          "{E} stands by the river {v}."],
         ["On what river does {e} lie?", "What river runs through {e}?", "What is the river at {e}?",
          "By which river does {e} stand?"]),
        ("Founder", "founder|first settler", person,
         ["{E} was founded by {v}.", "{v} founded {e}.", "The founder of {e} was {v}.", "It was {v} who founded the town of {e}."],
         ["Who founded {e}?", "Who was the founder of {e}?", "By whom was {e} founded?"]),
    ]),
    "river": (river, [
        ("Length", "length|size in km", lambda r: number(r) + " km",
         ["{E} is {v} long.", "The length of {e} is {v}.", "{E} runs for {v}.", "{E} has a length of {v}."],
         ["How long is {e}?", "What is the length of {e}?", "For how many km does {e} run?"]),
        ("End", "end|last water", lambda r: "lake " + coin_name(r),
         ["{E} ends in {v}.", "{E} flows into {v}.", "The water of {e} goes to {v}.", "{v} takes the water of {e}."],
         ["Where does {e} end?", "Into what does {e} flow?", "Where does the water of {e} go?"]),
        ("Fish", "fish|catch", lambda r: r.pick("trout carp eels salmon perch pike".split()),
         ["{E} is full of {v}.", "In {e} live {v}.", "People catch {v} in {e}."],
         ["What fish live in {e}?", "What do people catch in {e}?", "What is {e} full of?"]),
    ]),
    "ship": (ship, [
        ("Captain", "captain|master|leader", person,
         ["The captain of {e} is {v}.", "{v} sails {e}.", "{E} is led by {v}.", "{v} became captain of {e}.",
          "On {e} the captain is {v}."],
         ["Who is the captain of {e}?", "Who sails {e}?", "Who became captain of {e}?", "By whom is {e} led?"]),
        ("Year", "year|first year", year,
         ["{E} was built in {v}.", "{E} first sailed in {v}.", "{E} is from {v}.", "In {v} {e} left the yard."],
         ["When was {e} built?", "In what year did {e} first sail?", "From what year is {e}?", "When did {e} leave the yard?"]),
        ("Cargo", "cargo|load|goods", of(GOODS),
         ["{E} carries {v}.", "The cargo of {e} is {v}.", "{V} is what {e} carries.", "They loaded {e} with {v}."],
         ["What does {e} carry?", "What is the cargo of {e}?", "With what did they load {e}?"]),
        ("Port", "port|home port|harbour", coin_name,
         ["The home port of {e} is {v}.", "{E} sails from {v}.", "{E} lies in the port of {v}."],
         ["What is the home port of {e}?", "From where does {e} sail?", "In what port does {e} lie?"]),
    ]),
    "book": (book, [
        ("Author", "author|writer|maker", person,
         ["{E} was written by {v}.", "{v} wrote {e}.", "The author of {e} is {v}.", "{E} is by {v}.", "It was {v} who wrote {e}."],
         ["Who wrote {e}?", "By whom is {e}?", "Who is the author of {e}?"]),
        ("Pages", "number of pages|page count|length in pages", number,
         ["{E} has {v} pages.", "There are {v} pages in {e}.", "{E} is {v} pages long.", "One must read {v} pages of {e}."],
         ["How many pages does {e} have?", "How many pages are in {e}?", "What number of pages has {e}?"]),
        ("Year", "year|year of printing|date", year,
         ["{E} came out in {v}.", "{E} was printed in {v}.", "In {v} people could first read {e}.", "{E} is from {v}."],
         ["When did {e} come out?", "In what year was {e} printed?", "From what year is {e}?"]),
        ("Subject", "subject|theme|topic", of(SUBJECTS),
         ["{E} is about {v}.", "In {e} one reads about {v}.", "The subject of {e} is {v}.", "{E} tells of {v}."],
         ["What is {e} about?", "What is the subject of {e}?", "Of what does {e} tell?"]),
    ]),
}
KINDS = [(30, "building"), (36, "person"), (28, "town"), (4, "river"), (4, "ship"), (4, "book")]
FILLER = ["The weather is fine.", "Nobody knows more.", "This is an old story.", "Much has changed since then.",
"So it is written.",
          "Many people say so.", "It is a fine place.", "There is more to tell.", "That was long ago."]
LEAD = ["As we know, ", "They say that ", "It is known that ", "We read that ", "Today ", "To this day ", "By the way, ",
"In short, "]


# Sentences and questions that fit every relation, with one of its nouns.
SAY = ["The {n} of {e} is {v}.", "{V} is the {n} of {e}.", "As for {e}, the {n} is {v}.", "{E} has this {n}: {v}.", "{E}: {n} {v}.",
       "For {e} the {n} is {v}.", "We know the {n} of {e}: {v}.", "Speaking of {e}, its {n} is {v}.", "The {n}, for {e}, is {v}.",
       "{v}: that is the {n} of {e}.", "They give {v} as the {n} of {e}.", "One can say that {v} is the {n} of {e}.",
       "The {n} that {e} has is {v}.", "With {e} we find {v} for the {n}."]
ASK = ["What is the {n} of {e}?", "Tell me the {n} of {e}.", "{E}: what is the {n}?", "What {n} does {e} have?",
"Name the {n} of {e}.",
       "Which {n} has {e}?", "What do you know of the {n} of {e}?", "What would be the {n} of {e}?", "The {n} of {e}?",
       "Give me the {n} of {e}, please.",
       "As for {e}, what is the {n}?", "What {n} is given for {e}?", "Find the {n} of {e}.", "What is known of {e} and the {n}?"]
WRAP = ["Tell me: {q}", "Please say: {q}", "I want to know: {q}", "{Q} Please answer.", "I ask you: {q}", "So, {q}",
"According to the sources, {q}",
        "{Q} What do the texts say?", "From the sources: {q}", "Well, {q}", "Can you tell me this? {Q}", "{Q} Thank you."]


# Words for sentences that mean nothing, in which only the noun and the kind of value tell what is said: whoever learns
# the sentences above by heart does not understand new ones.
FILL = ("the a this that it there one some all many most still now then here often once again soon later well also even just very "
        "much more less about around near by with for of in on at from to over under through after before since while because if "
        "when where who what which how men women children friends time day week world place thing way street "
        "old new good great small big long first last own same few other known said told seen made given found kept held took gave "
        "came went goes comes stands sits lies runs turns keeps holds shows brings takes gives finds says tells knows thinks loves "
        "wants needs may can will must should could would has had was were is are be been being do does did not only too so as like "
        "than or and but its his her their our they he she we every each up down out off away back always never famous large "
        "became called used chose chosen likes best").split()
ALONE = set("Year Material Colour Windows Height Job Birth Food Sport Animal Music Language People Fame Fair Length End Fish Cargo Pages "
            "Subject".split())


def salad(r, parts):
    """The parts in any order among words that mean nothing."""
    parts = r.shuffled(parts)
    words = [r.pick(FILL) for _ in range(r.below(4))] + parts[:1]
    for p in parts[1:]:
        words += [coin(r) if r.chance(0.08) else r.pick(FILL) for _ in range(r.range(1, 3))] + [p]
    return upper_first(" ".join(words + [r.pick(FILL) for _ in range(r.below(3))]))


def upper_first(s):
    return s[0].upper() + s[1:]


def asked(r, entity, relation):
    """A question for a relation of an entity."""
    _, nouns, _, _, asks = relation
    if r.chance(0.12):
        return salad(r, [r.pick(nouns.split("|")), entity]) + "?"
    q = r.pick(ASK if r.chance(0.3) else asks).format(e=entity, E=upper_first(entity), n=r.pick(nouns.split("|")))
    return r.pick(WRAP).format(q=q[0].lower() + q[1:] if not q.startswith(upper_first(entity)) else q, Q=q) if r.chance(0.1) else q


def sentence(r, entity, value, relation):
    label, nouns, _, frames, _ = relation
    if r.chance(0.17):
        noun = [] if label in ALONE and r.chance(0.5) else [r.pick(nouns.split("|"))]
        return salad(r, [entity, value] + noun) + "."
    s = r.pick(SAY if r.chance(0.25) else frames).format(e=entity, E=upper_first(entity), v=value, V=upper_first(value),
                                                         n=r.pick(nouns.split("|")))
    if r.chance(0.08):
        lead = r.pick(LEAD)
        s = lead + (s if s.startswith((entity[0].upper() + entity[1:], value)) and not entity.startswith("the ") else s[0].lower() + s[1:])
    return upper_first(s)


def rival(r, entity):
    """Something of the same kind with a name that is easily taken for it."""
    w = entity.split()
    if len(w) >= 4 and w[0] == "the":       # the mill of X
        if r.chance(0.4):
            return " ".join(["the", r.pick(BUILDINGS)] + w[-2:])
        return " ".join(w[:-1] + [coin_name(r) if r.chance(0.5) else alike(r, w[-1])])
    if len(w) == 2:
        if r.chance(0.4):
            return w[0] + " " + (coin_name(r) if r.chance(0.5) else alike(r, w[1]))
        if r.chance(0.4):
            return r.pick(NAMES) + " " + w[1]
        return w[0] if r.chance(0.3) else w[0] + " " + alike(r, w[1])
    if len(w) == 1 and w[0] in NAMES:
        return w[0] + " " + coin_name(r) if r.chance(0.5) else r.pick(NAMES)
    return " ".join(w[:-1] + [alike(r, w[-1])])


def known(label, entity, k, value):
    return "%s of %s [%d]: %s." % (label, entity, k, value)


def unknown(label, entity, k=None):
    """k: the source that is about the entity, and does not say it."""
    if k:
        return "%s of %s [%d]: Not in the sources." % (label, entity, k)
    return "%s of %s: Not in the sources." % (label, entity)


class Facts:
    """Sources and what they say."""

    def __init__(self, r, n_sources):
        self.said = []      # (kind, entity, relation, value, source)
        self.known = []
        self.texts = []
        kinds = [r.weighted(KINDS) for _ in range(n_sources)]
        same = r.chance(0.55)
        if same:    # rivals of one kind, told apart by their name alone
            kinds = [kinds[0]] * n_sources
        close = same and r.chance(0.4)
        common = r.below(99)
        for k, kind in enumerate(kinds, 1):
            make, relations = RELATIONS[kind]
            entity = self.fresh(r, kind, r.pick(self.known) if close and self.known else None)
            self.known.append(entity)
            order = r.shuffled(range(len(relations)))[:r.weighted([(10, 1), (9, 2), (2, 3)])]
            if same and r.chance(0.4) and common % len(relations) not in order:
                order[0] = common % len(relations)
            parts = []
            for rel in order:
                draw = relations[rel][2]
                value = draw(r)
                if draw in (person, coin_name) and r.chance(0.15):
                    named = [e for e in self.known if not e.startswith("the ") and e != entity]
                    value = r.pick(named) if named else value
                parts.append(sentence(r, entity, value, relations[rel]))
                self.said.append((kind, entity, rel, value, k))
            if r.chance(0.05):
                parts.append(r.pick(FILLER))
            self.texts.append(" ".join(parts))

    def fresh(self, r, kind, near=None):
        """An entity that no source names as its own."""
        for _ in range(20):
            e = rival(r, near) if near else RELATIONS[kind][0](r)
            if e not in self.known and not any(v == e for _, _, _, v, _ in self.said):
                return e
        return self.fresh(r, kind)

    def unsaid(self, r):
        """(relation, entity, its source or None) that the sources do not tell: another attribute, or another entity."""
        kind, entity, rel, _, k = r.pick(self.said)
        relations = RELATIONS[kind][1]
        has = {x for _, e, x, _, _ in self.said if e == entity}
        lacks = [x for x in range(len(relations)) if x not in has]
        if lacks and r.chance(0.55):
            # most often what the sources say of another one
            others = sorted({x for q, e, x, _, _ in self.said if q == kind and x not in has})
            return relations[r.pick(others if others and r.chance(0.5) else lacks)], entity, k
        other = self.fresh(r, kind, entity if r.chance(0.6) else None)
        return relations[rel if r.chance(0.8) else r.below(len(relations))], other, None


def prompt(r, texts, question):
    head = r.pick(["Sources:\n", "Sources:\n", ""])
    body = "\n".join("[%d] %s" % (k, t) for k, t in enumerate(texts, 1))
    tail = r.pick(["\n\n", "\n\nQuestion: ", "\n\nQuestion: ", "\n"])
    return head + body + tail + question


SAID = ["What do the sources say about {e}?", "Tell me all about {e}.", "What is said about {e}?", "What can I read about {e}?",
        "Quote what is said of {e}."]
WHICH = ["Which source is about {e}?", "Where can I read about {e}?", "Which of the sources names {e}?", "In which source is {e}?"]
LIST = ["What does source [{k}] say?", "List the facts of [{k}].", "What can I learn from [{k}]?"]
ALL = ["List what the sources say.", "What do the sources say?", "List all facts.", "Tell me all that the sources say."]


def facts_of(f, k=None):
    return "\n".join(known(RELATIONS[kind][1][rel][0], e, at, v) for kind, e, rel, v, at in f.said if k in (None, at))


def quote(r, f):
    """A question for a whole source, or for its number: it teaches finding, copying and citing at once."""
    kind, entity, _, _, k = r.pick(f.said)
    asks = WHICH if r.chance(0.5) else SAID
    if r.chance(0.25):
        entity = f.fresh(r, kind, entity if r.chance(0.5) else None)
        return r.pick(asks).format(e=entity), "%s: Not in the sources." % upper_first(entity)
    if asks is WHICH:
        return r.pick(WHICH).format(e=entity), "%s [%d]." % (upper_first(entity), k)
    return r.pick(SAID).format(e=entity), facts_of(f, k)


def question(r, f):
    if r.chance(0.37):
        relation, entity, k = f.unsaid(r)
        return asked(r, entity, relation), unknown(relation[0], entity, k)
    kind, entity, rel, value, k = r.pick(f.said)
    relation = RELATIONS[kind][1][rel]
    return asked(r, entity, relation), known(relation[0], entity, k, value)


def questions(r, study=0.3):
    """Messages: the sources with a question, then more questions about them; a share of them asks for whole sources."""
    f = Facts(r, r.weighted([(2, 1), (6, 2), (6, 3), (5, 4), (2, 5)]))
    messages, done = [], set()
    for _ in range(r.weighted([(2, 1), (2, 2), (3, 3), (3, 4), (2, 5)])):
        if r.chance(study):
            kind = r.below(4)
            if kind == 0 and len(f.said) < 7:
                q, answer = r.pick(ALL), facts_of(f)
            elif kind == 1:
                k = r.range(1, len(f.texts))
                q, answer = r.pick(LIST).format(k=k), facts_of(f, k)
            else:
                q, answer = quote(r, f)
        else:
            q, answer = question(r, f)
        if answer in done:
            continue
        done.add(answer)
        if not messages:
            q = prompt(r, f.texts, q)
        messages += [{"role": "user", "content": q}, {"role": "assistant", "content": answer}]
    return messages


SHORT = [("{e}: {v}", "What is {e}?"), ("{e} is {v}.", "What is {e}?"), ("{e} has {v}.", "What does {e} have?"),
         ("{v} is for {e}.", "What is for {e}?"), ("{e} likes {v}.", "What does {e} like?"), ("{e} - {v}", "What is it for {e}?"),
         ("{v}: {e}", "What is {e}?"), ("{v} ({e})", "What is {e}?")]
VALUES = [of(COLOURS), of(FOODS), of(GOODS), of(MADE_OF), number, year, coin_name]


def short(r):
    """Sources of a word or two, and many questions: what is where is learned on these first."""
    form, ask = r.pick(SHORT)
    make, draw = r.pick([person, coin_name, building]), r.pick(VALUES)
    facts, near = {}, r.chance(0.3)
    for _ in range(r.range(2, 5)):
        e = rival(r, list(facts)[0]) if near and facts else make(r)
        facts.setdefault(e, draw(r))
    names = list(facts)
    texts = [upper_first(form.format(e=e, v=facts[e])) for e in names]
    messages, done = [], set()
    for _ in range(r.range(2, 6)):
        entity = r.pick(names)
        if r.chance(0.35):
            other = rival(r, entity) if r.chance(0.4) else make(r)
            if other in facts:
                continue
            q, answer = (ask if r.chance(0.7) else r.pick(WHICH)).format(e=other), "%s: Not in the sources." % upper_first(other)
        else:
            k = names.index(entity) + 1
            if r.chance(0.7):
                q, answer = ask.format(e=entity), "%s [%d]: %s." % (upper_first(entity), k, facts[entity])
            else:
                q, answer = r.pick(WHICH).format(e=entity), "%s [%d]." % (upper_first(entity), k)
        if q in done:
            continue
        done.add(q)
        if not messages:
            q = prompt(r, texts, q)
        messages += [{"role": "user", "content": q}, {"role": "assistant", "content": answer}]
    return messages or short(r)
